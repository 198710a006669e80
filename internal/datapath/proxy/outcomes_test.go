package proxy

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// row is one of the table in package judge.
type row struct{ outcome, another, client string }

// table reads it where it stands.
func table(t *testing.T) map[string]row {
	t.Helper()
	source, err := os.ReadFile("../judge/outcome.go")
	if err != nil {
		t.Fatal(err)
	}
	rows, under := map[string]row{}, ""
	for line := range strings.Lines(string(source)) {
		text, ok := strings.CutPrefix(line, "//\t")
		if !ok {
			continue
		}
		columns := regexp.MustCompile(`\s{2,}`).Split(strings.TrimSpace(text), -1)
		switch {
		case len(columns) == 1 && strings.HasSuffix(columns[0], ":"):
			under = columns[0] + " "
		case len(columns) == 4 && columns[1] != "outcome":
			rows[under+columns[0]] = row{columns[1], columns[2], columns[3]}
		}
	}
	return rows
}

// script is how a registry comes to an answer of the table.
type script struct {
	row     string
	options testregistry.Options
	faults  testregistry.Faults
	path    func(digest string) string // of a manifest if nil
	header  []string
	status  int // "that answer"
	// upstream stands for the registry in some rows.
	upstream func(*testing.T, *testregistry.Registry) upstream.Upstream
}

// byStatus are registries that answer with a status.
func byStatus(row string, codes ...int) (all []script) {
	for _, code := range codes {
		all = append(all, script{row: row, faults: testregistry.Faults{Status: code}, status: code})
	}
	return all
}

func tokens(row string, codes ...int) (all []script) {
	for _, code := range codes {
		all = append(all, script{
			row: "its token server: " + row, options: testregistry.Options{Bearer: true, Username: "u", Password: "p"},
			faults: testregistry.Faults{Status: code, Match: func(r *http.Request) bool { return r.URL.Path == "/token" }},
		})
	}
	return all
}

func scripts() []script {
	tags := func(string) string { return "/v2/" + repo + "/tags/list?" + ns }
	referrers := func(digest string) string { return "/v2/" + repo + "/referrers/" + digest + "?" + ns }
	manifest := func(digest string) string { return "/v2/" + repo + "/manifests/" + digest + "?" + ns }
	const nonsense = "what is no manifest or list,"
	all := []script{
		{row: "200, 206", status: 200}, {row: "200, 206", status: 206, path: blobPath, header: []string{"Range", "bytes=5-9"}},
		{row: "304, 412, 416 to a header", status: 304, path: blobPath, header: []string{"If-None-Match", "*"}},
		{row: "304, 412, 416 to a header", status: 412, path: blobPath, header: []string{"If-Match", `"x"`}},
		{row: "304, 412, 416 to a header", status: 416, path: blobPath, header: []string{"Range", "bytes=9999999-"}},
		{row: "nothing in time, or no", faults: testregistry.Faults{Hang: true}},
		{row: "nothing in time, or no", upstream: func(_ *testing.T, a *testregistry.Registry) upstream.Upstream {
			a.Stop()
			return a.Upstream("team/a")
		}},
		{row: "of whom it redirects to", options: testregistry.Options{RedirectBlobs: "localhost"}, path: blobPath,
			faults: testregistry.Faults{Status: 403, Match: func(r *http.Request) bool { return r.URL.RawQuery == "signature=secret" }}},
		{row: "another digest", faults: testregistry.Faults{WrongBytes: true}, path: manifest},
		{row: nonsense, faults: testregistry.Faults{Answer: testregistry.WebPage}},
		{row: nonsense, faults: testregistry.Faults{Answer: testregistry.WebPage}, path: blobPath},
		{row: nonsense, faults: testregistry.Faults{Answer: body("", []byte("<html>Welcome"))}, path: blobPath},
		{row: nonsense, faults: testregistry.Faults{Answer: body("application/json", []byte(`{"errors":[{"code":"DENIED"}]}`))}, path: tags},
		{row: nonsense, faults: testregistry.Faults{Answer: body("", []byte("<html>Welcome"))}, path: tags},
		{row: nonsense, faults: testregistry.Faults{Answer: body("", []byte("<html>Welcome"))}, path: referrers},
		{row: nonsense, faults: testregistry.Faults{Answer: body("application/json", []byte(`{}`))}, path: referrers},
		{row: "407, a certificate that we", options: testregistry.Options{TLS: true}, upstream: untrusted},
		{row: "407, a certificate that we", upstream: speaksHTTP2},
		{row: "407, a certificate that we", faults: testregistry.Faults{Status: 307, Header: http.Header{"Location": {"http://169.254.169.254/"}}}},
	}
	all = append(all, byStatus("408, 5xx", 408, 500, 502, 503, 504, 521)...)
	all = append(all, byStatus("429", 429)...)
	all = append(all, byStatus("401, 402, 403", 401, 402, 403)...)
	all = append(all, byStatus("1xx, 3xx, other 2xx, 501,", 201, 202, 203, 204, 205, 300, 307, 501, 505, 511)...)
	all = append(all, byStatus("206, 304, 412, 416 unasked", 206, 304, 412, 416)...)
	all = append(all, byStatus("407, a certificate that we", 407)...)
	all = append(all, byStatus("other 4xx", 400, 405, 410, 418, 451)...)
	all = append(all, byStatus("404", 404)...)
	all = append(all, tokens("401, 403", 401, 403)...)
	all = append(all, tokens("429", 429)...)
	all = append(all, tokens("408, 5xx", 408, 500, 503)...)
	return append(all, tokens("others", 204, 301, 400, 404)...)
}

func untrusted(t *testing.T, a *testregistry.Registry) upstream.Upstream {
	t.Helper()
	_, ca, err := cert.SelfSigned("localhost")
	if err != nil {
		t.Fatal(err)
	}
	u := a.Upstream("team/a")
	u.CA = ca
	return u
}

func speaksHTTP2(t *testing.T, _ *testregistry.Registry) upstream.Upstream {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP2(true)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return upstream.Upstream{Host: strings.TrimPrefix(server.URL, "https://"), Scheme: upstream.HTTPS, CA: string(ca)}
}

// TestOutcomes has for each row of the table in package judge registries that come to
// it, and asks them alone and beside one that works.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	rows := table(t)
	tried := map[string]bool{"then the body stops": true, "then its digest is wrong": true} // TestBrokenBodyGoesOnElsewhere, TestWrongBlobs
	for i, sc := range scripts() {
		tried[sc.row] = true
		want, ok := rows[sc.row]
		if !ok {
			t.Fatalf("the table has no row %q", sc.row)
		}
		t.Run(sc.row+"/"+strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			a, b, img := pair(t, sc.options)
			digest, _ := blob(t, img)
			path := manifestPath
			if sc.path != nil {
				if hash, err := img.Digest(); err == nil && strings.Contains(sc.path(digest), "/manifests/") {
					digest = hash.String()
				}
				path = sc.path(digest)
			}
			u := a.Upstream("team/a")
			if sc.upstream != nil {
				u = sc.upstream(t, a)
			}
			a.SetFaults(sc.faults)
			alone := start(t, Config{Budget: time.Second}, u)
			got := alone.get(path, sc.header...)
			check(t, got, want, sc.status)
			if n := testutil.ToFloat64(alone.metrics.attempts.WithLabelValues(u.Host, want.outcome)); n != 1 {
				t.Errorf("%v attempts are %s: %s", n, want.outcome, got.body)
			}
			both := start(t, Config{Budget: 4 * time.Second}, u, b.Upstream("team/b"))
			got = both.get(path, sc.header...)
			if asked := len(b.Requests()) > 0; asked != strings.HasPrefix(want.another, "yes") || asked && got.status != http.StatusOK {
				t.Errorf("another is asked: %v, and the client gets %d %s", asked, got.status, got.body)
			}
		})
	}
	for name := range rows {
		if !tried[name] {
			t.Errorf("no registry comes to the row %q", name)
		}
	}
}

// check compares what the client got with the last column.
func check(t *testing.T, got reply, want row, that int) {
	t.Helper()
	code, and, _ := strings.Cut(want.client, " and ")
	code, _, _ = strings.Cut(code, ":")
	if code == "that answer" {
		code = strconv.Itoa(that)
	}
	if strconv.Itoa(got.status) != code {
		t.Errorf("%d instead of %s: %s", got.status, want.client, got.body)
	}
	if after := got.header.Get("Retry-After"); (after != "") != (and == "Retry-After") {
		t.Errorf("Retry-After %q", after)
	}
}
