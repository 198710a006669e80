package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// The fuzz tests of this file give an upstream's answer into the whole data path, where
// another upstream is as it should be or says that it has nothing, and look at what the
// client gets.

// said is what an upstream answers to everything.
type said struct {
	status int
	header http.Header
	body   []byte
	length int64 // as announced; -1 for none
}

func (s said) RoundTrip(req *http.Request) (*http.Response, error) {
	resp := &http.Response{
		StatusCode: s.status, Status: strconv.Itoa(s.status) + " " + http.StatusText(s.status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: s.header.Clone(), Body: io.NopCloser(bytes.NewReader(s.body)), ContentLength: s.length, Request: req,
	}
	if req.Method == http.MethodHead || s.status < 200 || s.status == http.StatusNoContent || s.status == http.StatusNotModified {
		resp.Body = http.NoBody
	}
	if s.length >= 0 {
		resp.Header.Set("Content-Length", strconv.FormatInt(s.length, 10))
	}
	return resp, nil
}

// honest is an upstream that has the content.
type honest struct{ content []byte }

func (h honest) RoundTrip(req *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	rec.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(rec, req, "", time.Time{}, bytes.NewReader(h.content))
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}

// reached is a transport without connections.
type reached struct{ http.RoundTripper }

func (reached) CloseIdleConnections() {}

// fuzzed is the data path with upstreams in the place of sockets.
func fuzzed(t testing.TB, upstreams ...http.RoundTripper) http.Handler {
	t.Helper()
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	route := layout.Route{Name: layout.Fixed()}
	for i := range upstreams {
		route.Upstreams = append(route.Upstreams, upstream.Upstream{Host: "r" + strconv.Itoa(i) + ".example.com", Path: "hidden/path", Scheme: upstream.HTTPS})
	}
	if err := table.Swap(layout.Layout{Schema: layout.Schema, Generation: 1, Routes: []layout.Route{route}}); err != nil {
		t.Fatal(err)
	}
	found, _ := table.Lookup(fixedHost, repo)
	for i, target := range found.Targets {
		target.Transport = reached{upstreams[i]}
	}
	return New(table, Config{Log: slog.New(slog.DiscardHandler)})
}

// ask is what a client gets; cut says that the body broke off.
func ask(t *testing.T, path http.Handler, what, ranged string) (got reply, cut bool) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/"+repo+what+"?"+ns, nil)
	if ranged != "" {
		req.Header.Set("Range", ranged)
	}
	rec := httptest.NewRecorder()
	func() {
		defer func() {
			if r := recover(); r != nil {
				err, _ := r.(error)
				if cut = errors.Is(err, http.ErrAbortHandler); !cut {
					panic(r)
				}
			}
		}()
		path.ServeHTTP(rec, req)
	}()
	got = reply{status: rec.Code, header: rec.Header(), body: rec.Body.Bytes()}
	allowed := oci.KeepResponse(got.header)
	for name := range got.header {
		if allowed[name] == nil && name != "Link" && name != "Retry-After" {
			t.Errorf("the client gets header %s", name)
		}
	}
	if s := got.status; s < 200 || s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusProxyAuthRequired ||
		s >= 300 && s < 400 && s != http.StatusNotModified {
		t.Errorf("the client gets status %d", s)
	}
	return got, cut
}

// oneLine is a header's value as Go's client would hand it over.
func oneLine(s string) string {
	return strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ").Replace(s)
}

// FuzzLink: whatever a registry says of the next page, the client is told of pages of
// the same list alone.
func FuzzLink(f *testing.F) {
	for _, s := range []string{
		`</v2/hidden/path/tool/tags/list?last=v2&n=2>; rel="next"`, `<?last=a>; rel=next, </v2/hidden/path/tool/tags/list?last=b>`,
		`<https://other.example.com/v2/hidden/path/tool/tags/list?n=1>;rel="next"`, `<%zz`, `<//a/b?c>; title="\"`,
	} {
		f.Add(s)
	}
	form := regexp.MustCompile(`^</v2/` + repo + `/tags/list\?[^<>]*>; rel="?[a-zA-Z0-9 .-]*"?$`)
	f.Fuzz(func(t *testing.T, link string) {
		body := []byte(`{"name":"hidden/path/tool","tags":["v1"]}`)
		path := fuzzed(t, said{200, http.Header{"Content-Type": {"application/json"}, "Link": {oneLine(link)}}, body, int64(len(body))})
		got, _ := ask(t, path, "/tags/list", "")
		for _, l := range got.header.Values("Link") {
			if !form.MatchString(l) {
				t.Errorf("%q became %q", link, l)
			}
		}
	})
}

// FuzzPart: a client that asks for a part or for the whole gets these bytes or others of
// its length, never more and never less without noticing; the whole is right where
// another upstream has it.
func FuzzPart(f *testing.F) {
	f.Add(206, "bytes 5-9/64", []byte("56789"), int64(5), true)
	f.Add(206, "bytes 0-9/64", []byte("0123456789"), int64(-1), false)
	f.Add(200, "", []byte("0123"), int64(64), false)
	f.Add(416, "bytes */64", []byte("{}"), int64(2), true)
	f.Add(206, "bytes 18446744073709551615-9223372036854775807/*", []byte("x"), int64(1), true)
	content := []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-")
	blob := "/blobs/" + judge.DigestLike("", content)
	f.Fuzz(func(t *testing.T, status int, contentRange string, body []byte, length int64, part bool) {
		header := http.Header{"Content-Type": {"application/octet-stream"}}
		if contentRange != "" {
			header["Content-Range"] = []string{oneLine(contentRange)}
		}
		ranged := ""
		if part {
			ranged = "bytes=5-9"
		}
		if length >= 0 { // net/http sees to it that no more comes
			body = body[:min(int64(len(body)), length)]
		}
		path := fuzzed(t, said{abs(status) % 1000, header, body, max(length, -1)}, honest{content})
		got, cut := ask(t, path, blob, ranged)
		switch {
		case cut || got.status >= 400 || got.status == http.StatusNotModified:
		case got.status == http.StatusOK && !bytes.Equal(got.body, content):
			t.Errorf("the whole is %q", got.body)
		case got.status == http.StatusPartialContent && !part:
			t.Error("a part, and the whole was asked for")
		case got.status == http.StatusPartialContent:
			m := regexp.MustCompile(`^bytes 0*5-0*([0-9])/(\d+|\*)$`).FindStringSubmatch(got.header.Get("Content-Range"))
			if m == nil || strconv.Itoa(len(got.body)+4) != m[1] {
				t.Errorf("%d bytes as %s", len(got.body), got.header.Get("Content-Range"))
			}
		}
	})
}

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// FuzzErrorBody: whatever a registry says of an error, the client gets an OCI error that
// can be printed.
func FuzzErrorBody(f *testing.F) {
	f.Add(404, "application/json", []byte(`{"errors":[{"code":"NAME_UNKNOWN","message":"hidden/path/tool","detail":{"name":["hidden/path/tool"]}}]}`))
	f.Add(429, "text/html", []byte("<html>"))
	f.Add(403, "", []byte("{\"errors\":[{\"code\":\"\x1b[2J\",\"message\":\"\u2028\"}]}"))
	f.Add(404, "", []byte(`{"errors":[{"code":"\u001b[2J","message":"\u2028"}]}`))
	f.Add(418, "application/json", []byte(`{"errors":[{"detail":[[[[1e999]]]]}]}`))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		status = 400 + abs(status)%200
		path := fuzzed(t, said{status, http.Header{"Content-Type": {oneLine(kind)}}, body, int64(len(body))}, said{status: 404, length: -1})
		for _, what := range []string{"/manifests/v1", "/tags/list"} {
			got, cut := ask(t, path, what, "")
			var said oci.ErrorBody
			if err := json.Unmarshal(got.body, &said); err != nil || len(said.Errors) == 0 || cut || got.status < 400 {
				t.Fatalf("%d %q became %d %q", status, body, got.status, got.body)
			}
			for _, e := range said.Errors {
				if e.Message != foreign.Line(e.Message, len(e.Message)) || e.Code != foreign.Line(e.Code, len(e.Code)) {
					t.Errorf("%q became %+v", body, e)
				}
			}
		}
	})
}

// FuzzRetryAfter: a client is told of seconds, or of nothing.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"5", "0", "-1", "1e9", "99999999999999999999", "Tue, 01 Dec 2026 14:00:35 GMT", " 7 ", "soon", "", "43.988µs"} {
		f.Add(429, s, "")
		f.Add(503, s, "100;w=21600")
	}
	f.Fuzz(func(t *testing.T, status int, after, limit string) {
		header := http.Header{"Retry-After": {oneLine(after)}, "Ratelimit-Remaining": {oneLine(limit)}}
		path := fuzzed(t, said{400 + abs(status)%200, header, nil, 0})
		got, _ := ask(t, path, "/manifests/v1", "")
		if s := got.status; s != http.StatusTooManyRequests && s != http.StatusServiceUnavailable {
			return
		}
		if said := got.header.Get("Retry-After"); said != "" {
			if seconds, err := strconv.ParseUint(said, 10, 31); err != nil || seconds > 24*60*60 {
				t.Errorf("%q became %q", after, said)
			}
		}
	})
}

// TestACutBodyIsNoWholeOne: also where nobody says how long it is, and although what became of
// the connection is an io.EOF too: the client must not take it for the end.
func TestACutBodyIsNoWholeOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		content := []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-")
		path := fuzzed(t, said{206, http.Header{"Content-Range": {"bytes 5-7/10"}}, []byte("5"), -1}, honest{content})
		got, cut := ask(t, path, "/blobs/"+judge.DigestLike("", content), "bytes=5-9")
		if !cut {
			t.Errorf("%q is the whole of %s", got.body, got.header.Get("Content-Range"))
		}
	})
}

// breaks ends with an error that has the io.EOF in it.
type breaks struct{ rest io.Reader }

func (b breaks) Read(p []byte) (int, error) {
	n, err := b.rest.Read(p)
	if err != nil {
		err = fmt.Errorf("the connection: %w", err)
	}
	return n, err
}

// TestOnlyTheEndIsTheEnd: an error that has an io.EOF in it, wherever it comes from, is none.
func TestOnlyTheEndIsTheEnd(t *testing.T) {
	t.Parallel()
	for _, wrapped := range []bool{false, true} {
		var body io.Reader = strings.NewReader("01234")
		if wrapped {
			body = breaks{body}
		}
		rec := httptest.NewRecorder()
		err := relay{pool: &buffers{}}.copy(rec, httptest.NewRequest(http.MethodGet, "/", nil), &http.Response{ContentLength: -1, Body: io.NopCloser(body)})
		if rec.Body.String() != "01234" || wrapped == (err == nil) {
			t.Errorf("wrapped %v: %q, %v", wrapped, rec.Body, err)
		}
	}
}
