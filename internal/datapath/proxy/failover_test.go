package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/testregistry"

	"github.com/d8-registry/registry/internal/datapath/oci"
)

// Whatever is wrong with the first upstream, the second serves; a client sees
// nothing of it.
func TestNextUpstreamServes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		harm func(*testregistry.Registry)
	}{
		{"stopped", func(r *testregistry.Registry) { r.Stop() }},
		{"500", status(500)}, {"502", status(502)}, {"503", status(503)}, {"504", status(504)},
		{"429", status(429)}, {"401", status(401)}, {"403", status(403)}, {"402", status(402)},
		{"404", status(404)}, {"400", status(400)}, {"405", status(405)}, {"408", status(408)}, {"418", status(418)},
		{"hangs", func(r *testregistry.Registry) { r.SetFaults(testregistry.Faults{Hang: true}) }},
		{"hangs on accept", func(r *testregistry.Registry) { r.SetFaults(testregistry.Faults{HangOnAccept: true}) }},
		{"redirects to nowhere", func(r *testregistry.Registry) {
			r.SetFaults(testregistry.Faults{Status: 307, Header: http.Header{"Location": {"http://127.0.0.1:1/x"}}})
		}},
		{"redirects in circles", func(r *testregistry.Registry) {
			r.SetFaults(testregistry.Faults{Status: 302, Header: http.Header{"Location": {"/v2/"}}})
		}},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%v", tc.name, secure), func(t *testing.T) {
				t.Parallel()
				a, b, img := pair(t, testregistry.Options{TLS: secure, Username: "u", Password: "p"})
				s := start(t, Config{Budget: 8 * time.Second}, a.Upstream("team/a"), b.Upstream("team/b"))
				tc.harm(a)
				wantStatus(t, s.get(manifestPath), http.StatusOK)
				wantStatus(t, s.do(http.MethodHead, manifestPath), http.StatusOK)
				digest, content := blob(t, img)
				wantBlob(t, s.get(blobPath(digest)), content)
				if b.Bytes(digest) != int64(len(content)) {
					t.Errorf("the second registry sent %d bytes, want %d", b.Bytes(digest), len(content))
				}
			})
		}
	}
}

func TestHealthyFirstUpstreamServesAlone(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
	digest, content := blob(t, img)
	wantBlob(t, s.get(blobPath(digest)), content)
	wantStatus(t, s.get(manifestPath), http.StatusOK)
	if n := len(b.Requests()); n != 0 {
		t.Errorf("the second registry got %d requests", n)
	}
}

// What the client gets when nobody serves. Each row is what the two upstreams
// answer.
func TestNobodyServes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		first, second, want int
		code, after         string // the first says 7, the second 9
	}{
		{404, 404, 404, "FAULT", ""},
		{404, 400, 400, "FAULT", ""}, {405, 404, 405, "FAULT", ""},
		{404, 500, 503, oci.CodeUnavailable, "9"}, {500, 404, 503, oci.CodeUnavailable, "7"}, {400, 503, 503, oci.CodeUnavailable, "9"},
		{401, 404, 502, oci.CodeUnavailable, ""}, {404, 403, 502, oci.CodeUnavailable, ""},
		{401, 401, 502, oci.CodeUnavailable, ""}, {403, 401, 502, oci.CodeUnavailable, ""}, {400, 401, 502, oci.CodeUnavailable, ""},
		{503, 503, 503, oci.CodeUnavailable, "7"}, {504, 408, 503, oci.CodeUnavailable, "7"}, {502, 500, 503, oci.CodeUnavailable, "7"},
		// Asked again, the second could serve: containerd alone would ask it again.
		{401, 503, 503, oci.CodeUnavailable, "9"}, {503, 403, 503, oci.CodeUnavailable, "7"}, {204, 503, 503, oci.CodeUnavailable, "9"},
		{429, 500, 503, oci.CodeUnavailable, "9"},
		{429, 429, 429, oci.CodeTooManyRequests, "9"}, {429, 404, 429, oci.CodeTooManyRequests, "7"}, {403, 429, 429, oci.CodeTooManyRequests, "9"},
		{501, 404, 502, oci.CodeUnavailable, ""}, {204, 404, 502, oci.CodeUnavailable, ""},
	} {
		t.Run(fmt.Sprintf("%d,%d", tc.first, tc.second), func(t *testing.T) {
			t.Parallel()
			a, b, _ := pair(t, testregistry.Options{})
			s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
			a.SetFaults(testregistry.Faults{Status: tc.first, Message: "said a", RetryAfter: "7"})
			b.SetFaults(testregistry.Faults{Status: tc.second, Message: "said b", RetryAfter: "9"})
			got := s.get(manifestPath)
			wantStatus(t, got, tc.want)
			if got.header.Get("Www-Authenticate") != "" {
				t.Error("a challenge reached the client")
			}
			entry := got.errors(t)[0]
			if entry.Code != tc.code {
				t.Errorf("code %s, want %s", entry.Code, tc.code)
			}
			if after := got.header.Get("Retry-After"); after != tc.after {
				t.Errorf("Retry-After %q, want %q", after, tc.after)
			}
			if tc.code == oci.CodeUnavailable {
				for _, want := range []string{a.Host() + ": ", "said a", b.Host() + ": ", "said b"} {
					if tc.first != http.StatusNoContent && !strings.Contains(entry.Message, want) {
						t.Errorf("%q does not name %q", entry.Message, want)
					}
				}
			}
		})
	}
}

func TestOneUpstreamWithoutTheImage(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	got := s.get("/v2/" + repo + "/manifests/nothing?" + ns)
	wantStatus(t, got, http.StatusNotFound)
	got.errors(t)
	wantStatus(t, s.do(http.MethodHead, "/v2/"+repo+"/manifests/nothing?"+ns), http.StatusNotFound)
}

func status(code int) func(*testregistry.Registry) {
	return func(r *testregistry.Registry) { r.SetFaults(testregistry.Faults{Status: code}) }
}
