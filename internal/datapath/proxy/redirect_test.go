package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

// Blob redirects are followed inside, with Range and without credentials,
// also to another port of the same host.
func TestBlobRedirectsAreFollowed(t *testing.T) {
	t.Parallel()
	for _, o := range []testregistry.Options{
		{RedirectBlobs: "127.0.0.1"},
		{RedirectBlobs: "127.0.0.1", Username: "u", Password: "p"},
		{RedirectBlobs: "localhost", Username: "u", Password: "p", Bearer: true},
		{RedirectBlobs: "127.0.0.1", Username: "u", Password: "p", TLS: true},
		{RedirectBlobs: "localhost", Username: "u", Password: "p", TLS: true, Bearer: true},
	} {
		a, _, img := pair(t, o)
		s := start(t, Config{}, a.Upstream("team/a"))
		digest, content := blob(t, img)
		wantBlob(t, s.get(blobPath(digest)), content)
		got := s.get(blobPath(digest), "Range", "bytes=5-9", "Authorization", "Basic Y2xpZW50OnNlY3JldA==", "Cookie", "a=b")
		wantStatus(t, got, http.StatusPartialContent)
		if string(got.body) != string(content[5:10]) {
			t.Errorf("%+v: range: %q", o, got.body)
		}
		seen := 0
		for _, req := range a.Requests() {
			if !req.CDN {
				continue
			}
			seen++
			for _, name := range []string{"Authorization", "Cookie", "Referer"} {
				if v := req.Header.Get(name); v != "" {
					t.Errorf("%+v: %s leaked to the other server: %q", o, name, v)
				}
			}
		}
		if seen != 2 {
			t.Errorf("%+v: the other server got %d requests, want 2", o, seen)
		}
		if log := s.logged(); strings.Contains(log, "signature") {
			t.Errorf("a signed URL in the log: %s", log)
		}
	}
}

func TestRedirectsThatAreNotFollowed(t *testing.T) {
	t.Parallel()
	for name, location := range map[string]string{
		"metadata":  "http://169.254.169.254/latest/meta-data?signature=secret",
		"file":      "file:///etc/passwd",
		"userinfo":  "https://user:secret@localhost/x",
		"none":      "",
		"malformed": "http://[::1/%zz?signature=secret",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _, img := pair(t, testregistry.Options{})
			s := start(t, Config{}, a.Upstream("team/a"))
			a.SetFaults(testregistry.Faults{Status: 307, Header: http.Header{"Location": {location}}})
			digest, _ := blob(t, img)
			got := s.get(blobPath(digest))
			wantStatus(t, got, http.StatusBadGateway)
			if m := got.errors(t)[0].Message; strings.Contains(m, "secret") || !strings.Contains(m, "redirect") {
				t.Errorf("message %q", m)
			}
		})
	}
}

// What no digest proves does not go from https to http.
func TestRedirectFromHTTPSToHTTP(t *testing.T) {
	t.Parallel()
	plain, _, img := pair(t, testregistry.Options{})
	secure := testregistry.New(t, testregistry.Options{TLS: true})
	s := start(t, Config{}, secure.Upstream("team/a"))
	digest, content := blob(t, img)
	secure.SetFaults(testregistry.Faults{Status: 307, Header: http.Header{"Location": {"http://" + plain.Host() + "/v2/team/a/tool/blobs/" + digest}}})
	wantBlob(t, s.get(blobPath(digest)), content)
	secure.SetFaults(testregistry.Faults{Status: 307, Header: http.Header{"Location": {"http://" + plain.Host() + "/v2/team/a/tool/manifests/v1"}}})
	wantStatus(t, s.get(manifestPath), http.StatusBadGateway)
}

func TestRefusalAfterARedirectNamesThePlace(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{RedirectBlobs: "localhost"})
	s := start(t, Config{}, a.Upstream("team/a"))
	a.SetFaults(testregistry.Faults{Status: 403, Match: func(r *http.Request) bool { return r.URL.RawQuery == "signature=secret" }})
	digest, _ := blob(t, img)
	got := s.get(blobPath(digest))
	wantStatus(t, got, http.StatusBadGateway)
	if m := got.errors(t)[0].Message; !strings.Contains(m, a.CDNHost()+", to which "+a.Host()+" redirected, refused us: 403") {
		t.Errorf("message %q", m)
	}
}
