package hostile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/control/precheck"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/reach"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

const registrysPassword = "password-of-the-registry"

// liar is a registry that answers everything by one handler, once it is given the
// server's own URL.
type liar func(url string) http.HandlerFunc

func always(h http.HandlerFunc) liar { return func(string) http.HandlerFunc { return h } }

func says(status int, mediaType, body string) liar {
	return always(func(w http.ResponseWriter, _ *http.Request) {
		if mediaType != "" {
			w.Header().Set("Content-Type", mediaType)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func redirects(to func(url string, r *http.Request) string) liar {
	return func(url string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to(url, r))
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}
}

// challenges asks for a token of a server.
func challenges(realm func(url string) string, token http.HandlerFunc) liar {
	return func(url string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				token(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm(url)+`"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
}

// endless writes the same for ever.
func endless(w io.Writer, r *http.Request, piece string) {
	for r.Method == http.MethodGet && r.Context().Err() == nil {
		if _, err := io.WriteString(w, piece); err != nil {
			return
		}
	}
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// attemptsOfARegistry are what the owner of a registry tries, and what the image check
// must say to it. elsewhere is a server of somebody else's, which must not be asked.
func attemptsOfARegistry(elsewhere string) map[string]struct {
	answer liar
	want   string
	byTag  bool // no digest says what is right
} {
	const image = `{"schemaVersion":2,"config":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"layers":[]}`
	child := digestOf("a child that is not there")
	index := `{"schemaVersion":2,"manifests":[{"digest":"` + child + `","platform":{"architecture":"` + runtime.GOARCH + `","os":"linux"}}]}`
	here := func(url string) string { return url + "/token" }
	return map[string]struct {
		answer liar
		want   string
		byTag  bool
	}{
		"a web page":                      {always(testregistry.WebPage), "web page", false},
		"an error page with 200":          {says(200, "text/plain", "<html>502 Bad Gateway</html>"), "web page", false},
		"an error in JSON with 200":       {says(200, "application/json", `{"error":"no such project"}`), "no such project", false},
		"204":                             {says(204, "", ""), "204", false},
		"an empty 200":                    {says(200, "", ""), "nothing", false},
		"the right type and wrong bytes":  {says(200, judge.OCIManifest, image), "other bytes", false},
		"the right type, digest of a lie": {always(lieOfDigest), "other bytes", false},
		"an index without the children": {always(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, child) {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", judge.OCIIndex)
			_, _ = io.WriteString(w, index)
		}), "is not there", true},
		"a manifest without an end": {always(func(w http.ResponseWriter, r *http.Request) { endless(w, r, strings.Repeat(" ", 1<<16)) }), "more than", false},
		"a megabyte of trailers": {always(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				return
			}
			_, _ = io.WriteString(w, image)
			_ = http.NewResponseController(w).Flush()
			for i := range 16 {
				w.Header().Set(http.TrailerPrefix+fmt.Sprintf("X-%d", i), strings.Repeat("x", 1<<16))
			}
		}), "trailer", false},
		"10 MB of headers": {always(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 10 << 4 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1<<16))
			}
		}), "header", false},
		"redirects in a circle":                       {redirects(func(_ string, r *http.Request) string { return r.URL.Path }), "more than", false},
		"a redirect to the cloud's metadata":          {redirects(func(string, *http.Request) string { return "http://169.254.169.254/latest/" }), "169.254.169.254", false},
		"a token server at the cloud's metadata":      {challenges(func(string) string { return "http://169.254.169.254/token" }, nil), "169.254.169.254", false},
		"a redirect that asks for the password there": {redirects(func(string, *http.Request) string { return elsewhere + "/basic" }), "to which", false},
		"a token server that answers with a page":     {challenges(here, testregistry.WebPage), "not JSON", false},
		"a token server that redirects the password":  {challenges(here, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, http.StatusFound) }), "it redirects to another server", false},
	}
}

// lieOfDigest names the digest that was asked for over other bytes.
func lieOfDigest(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", judge.OCIIndex)
	w.Header().Set("Docker-Content-Digest", r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
	_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[]}`)
}

// TestALyingRegistry: what a registry answers is believed by none of the three who ask
// it, and they say what they got. The healthy registry behind it serves the client.
func TestALyingRegistry(t *testing.T) {
	t.Parallel()
	var stolen atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			stolen.Store(true)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="give it to me"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(elsewhere.Close)
	healthy := testregistry.New(t, testregistry.Options{})
	img := healthy.PushRandom(t, "d8/tool", "v1", 1, 10)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for tried, tc := range attemptsOfARegistry(elsewhere.URL) {
		t.Run(tried, func(t *testing.T) {
			t.Parallel()
			u, image := lyingRegistry(t, tc.answer), "tool@"+digest.String()
			if tc.byTag {
				image = "tool:v1"
			}
			check := askTheImageCheck(t, u, image)
			node := askANode(t, u, healthy.Upstream("d8"), image)
			for who, said := range map[string]string{"image check": check, "node": node} {
				if want := strings.ReplaceAll(tc.want, "other bytes", "answered"); !strings.Contains(said, want) || strings.Contains(said, registrysPassword) || len(said) > 600 {
					t.Errorf("the %s says %q, want %q", who, said, tc.want)
				}
			}
			if status := pullThrough(t, "tool/manifests/"+digest.String(), u, healthy.Upstream("d8")); status != http.StatusOK {
				t.Errorf("the pull, which another registry could serve: %d", status)
			}
			if stolen.Load() {
				t.Error("the password went to another server")
			}
			note(t, registryOwner, tried, "image check and node: "+forTable(check)+"; the pull is served by the next registry")
		})
	}
}

var (
	ports  = regexp.MustCompile(`(127\.0\.0\.1):\d+`)
	hashes = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
)

// forTable is what was said without what differs from run to run.
func forTable(s string) string {
	return foreign.Line(hashes.ReplaceAllString(ports.ReplaceAllString(s, "$1"), "sha256:…"), 160)
}

func lyingRegistry(t *testing.T, answer liar) upstream.Upstream {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	url := "http://" + server.Listener.Addr().String()
	server.Config.Handler = answer(url)
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return upstream.Upstream{
		Host: server.Listener.Addr().String(), Path: "d8", Scheme: upstream.HTTP,
		Credentials: upstream.Credentials{Username: "puller", Password: registrysPassword},
	}
}

// askTheImageCheck is what the image check says of one image; empty if it found it.
func askTheImageCheck(t *testing.T, u upstream.Upstream, image string) string {
	t.Helper()
	checker := precheck.Checker{
		Transport: func(u upstream.Upstream) (http.RoundTripper, error) { return transport.New(u) },
		Timeout:   20 * time.Second,
	}
	found := checker.Check(t.Context(), precheck.Request{Fingerprint: "f", Upstream: u, Images: []string{image}, Architectures: []string{runtime.GOARCH}})
	if len(found.Failures) > 0 {
		return found.Failures[0].Error
	}
	return found.Problem
}

// askANode is what a node says of the target; empty if it would report.
func askANode(t *testing.T, target, old upstream.Upstream, image string) string {
	t.Helper()
	r := report.New(report.Options{}).Begin()
	l := layout.Layout{Generation: 2, Target: target, Probe: image, Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{old, target})}
	if reach.New("node", time.Hour, 0).Check(t.Context(), r, l) {
		return ""
	}
	return strings.Join(r.Problems(), "; ")
}

// pullThrough is the status of a pull through the data path, with the registries in
// that order.
func pullThrough(t *testing.T, what string, upstreams ...upstream.Upstream) int {
	t.Helper()
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	err := table.Swap(layout.Layout{Schema: layout.Schema, Generation: 1, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v2/"+layout.Fixed().Path+"/"+what, nil)
	proxy.New(table, proxy.Config{DefaultHost: layout.Fixed().Host}).ServeHTTP(got, req)
	return got.Code
}
