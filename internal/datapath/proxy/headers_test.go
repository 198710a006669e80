package proxy

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

func TestOnlyPullHeadersReachTheUpstream(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	wantStatus(t, s.get(manifestPath,
		"Accept", "application/vnd.oci.image.index.v1+json", "Accept", "application/vnd.oci.image.manifest.v1+json",
		"If-None-Match", `"x"`, "Authorization", "Bearer client", "Cookie", "a=b", "Proxy-Authorization", "Basic x",
		"X-Forwarded-For", "10.0.0.1", "X-Registry-Node-Token", "secret", "User-Agent", "containerd/2.4.2", "Te", "trailers",
		"Accept-Encoding", "gzip", "Connection", "X-Registry-Node-Token",
	), http.StatusOK)
	got := a.Requests()[0]
	for name := range got.Header {
		if !slices.Contains([]string{"Accept", "If-None-Match", "User-Agent", "Accept-Encoding"}, name) {
			t.Errorf("%s: %q reached the upstream", name, got.Header[name])
		}
	}
	if n := len(got.Header.Values("Accept")); n != 2 {
		t.Errorf("%d Accept values, want 2", n)
	}
	if got.Header.Get("Accept-Encoding") != "identity" || got.Header.Get("User-Agent") != judge.UserAgent {
		t.Errorf("header %v", got.Header)
	}
	if got.Query != "" {
		t.Errorf("the query %q reached the upstream", got.Query)
	}
}

func TestOnlyPullHeadersReachTheClient(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	a.SetFaults(testregistry.Faults{Header: http.Header{
		"Set-Cookie": {"session=secret"}, "Www-Authenticate": {"Basic"}, "X-Internal": {"host"}, "Server": {"upstream/1"},
		"Location": {"https://upstream/x"}, "Ratelimit-Remaining": {"3"}, "Strict-Transport-Security": {"max-age=1"},
	}})
	got := s.get(manifestPath)
	wantStatus(t, got, http.StatusOK)
	for name := range got.header {
		if oci.KeepResponse(got.header)[name] == nil && name != "Date" {
			t.Errorf("%s: %q reached the client", name, got.header[name])
		}
	}
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Docker-Content-Digest": hash.String(), "Docker-Distribution-Api-Version": "registry/2.0", "Ratelimit-Remaining": "3",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	if got.header.Get("Content-Length") == "" {
		t.Error("Content-Length is lost")
	}
}

func TestHeadKeepsContentLength(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, s.server.URL+manifestPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.ContentLength != int64(len(raw)) {
		t.Errorf("Content-Length %d, want %d", resp.ContentLength, len(raw))
	}
}

func TestAnswerWithAnotherDigestIsNotRelayed(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
	other := "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	a.SetFaults(testregistry.Faults{Header: http.Header{"Docker-Content-Digest": {other}}, Status: 200})
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	got := s.get("/v2/" + repo + "/manifests/" + hash.String() + "?" + ns)
	wantStatus(t, got, http.StatusOK)
	if got.header.Get("Docker-Content-Digest") != hash.String() {
		t.Errorf("digest %s", got.header.Get("Docker-Content-Digest"))
	}
}

// TestNothingAfterTheBodyReachesTheClient: trailers are headers that come when the
// allow-list has been asked already.
func TestNothingAfterTheBodyReachesTheClient(t *testing.T) {
	t.Parallel()
	for name, announce := range map[string]bool{"announced": true, "not announced": false} {
		up := host(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			prefix := http.TrailerPrefix
			if announce {
				w.Header().Set("Trailer", "Set-Cookie, Docker-Content-Digest")
				prefix = ""
			}
			_, _ = w.Write([]byte("layer"))
			w.Header().Set(prefix+"Set-Cookie", "session=secret")
			w.Header().Set(prefix+"Docker-Content-Digest", "sha256:0")
		})
		s := start(t, Config{}, up)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+blobPath("sha256:"+strings.Repeat("a", 64)), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(body) != "layer" {
			t.Errorf("%s: %d %q, %v", name, resp.StatusCode, body, err)
		}
		if len(resp.Trailer) > 0 || resp.Header.Get("Trailer") != "" {
			t.Errorf("%s: the client gets %v after the body, announced as %q", name, resp.Trailer, resp.Header.Get("Trailer"))
		}
	}
}
