package proxy

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// A manifest by digest with wrong or too few bytes comes from the next
// upstream; containerd would fail the pull.
func TestManifestsByDigestAreVerified(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]testregistry.Faults{
		"wrong bytes": {WrongBytes: true},
		"cut":         {CutAfter: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, img := pair(t, testregistry.Options{})
			s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
			a.SetFaults(faults)
			hash, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			want, err := img.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			path := "/v2/" + repo + "/manifests/" + hash.String() + "?" + ns
			wantBlob(t, s.get(path), want)
			s.swap(2, a.Upstream("team/a"))
			got := s.get(path)
			wantStatus(t, got, map[string]int{"cut": http.StatusServiceUnavailable, "wrong bytes": http.StatusBadGateway}[name])
			if m := got.errors(t)[0].Message; !strings.Contains(m, "manifest") {
				t.Errorf("message %q", m)
			}
		})
	}
}

// TestAManifestByTagIsWhatItsDigestSays: go-containerregistry and skopeo ask by tag, and
// believe what comes.
func TestAManifestByTagIsWhatItsDigestSays(t *testing.T) {
	t.Parallel()
	_, b, img := pair(t, testregistry.Options{})
	want, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	liar := host(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
		w.Header().Set("Docker-Content-Digest", hash.String())
		_, _ = io.WriteString(w, string(want)+"\n")
	})
	s := start(t, Config{}, liar, b.Upstream("team/b"))
	wantBlob(t, s.get(manifestPath), want)
	s.swap(2, liar)
	wantStatus(t, s.get(manifestPath), http.StatusBadGateway)
}

// TestWhatIsNoManifestComesFromTheNext: no status makes a manifest, also under a tag,
// where no digest says so.
func TestWhatIsNoManifestComesFromTheNext(t *testing.T) {
	t.Parallel()
	huge := []byte(`{"schemaVersion":2,"manifests":[` + strings.Repeat(" ", judge.Limit) + `]}`)
	for name, h := range map[string]http.HandlerFunc{
		"error with 200":      body("application/json", []byte(`{"errors":[{"code":"NAME_UNKNOWN"}]}`)),
		"JSON of another":     body("application/json", []byte(`{"status":"ok"}`)),
		"page without a type": body("", []byte("<!DOCTYPE html><title>Welcome</title>")),
		"nothing":             body("", nil),
		"204":                 func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"202":                 func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
		"206 unasked":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) },
		"larger than any":     body("", huge),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, b, img := pair(t, testregistry.Options{})
			s := start(t, Config{}, host(t, h), b.Upstream("team/b"))
			want, err := img.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			hash, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			wantBlob(t, s.get(manifestPath), want)
			wantBlob(t, s.get("/v2/"+repo+"/manifests/"+hash.String()+"?"+ns), want)
			head := s.do(http.MethodHead, manifestPath)
			if head.status != http.StatusOK || head.header.Get("Docker-Content-Digest") != hash.String() {
				t.Errorf("HEAD: %d %v", head.status, head.header)
			}
		})
	}
}

func body(mediaType string, data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil // else net/http guesses one
		if mediaType != "" {
			w.Header().Set("Content-Type", mediaType)
		}
		_, _ = w.Write(data)
	}
}

// TestLinksAreBounded: one more than a list has is nonsense, and is not passed on.
func TestLinksAreBounded(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{oci.MostLinks: http.StatusOK, oci.MostLinks + 1: http.StatusBadGateway} {
		s := start(t, Config{}, host(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", strings.Repeat("<?last=a>,", n))
			_, _ = w.Write([]byte(`{"name":"x","tags":[]}`))
		}))
		got := s.get("/v2/" + repo + "/tags/list?" + ns)
		if links := len(got.header.Values("Link")); got.status != want || want == http.StatusOK && links != n || want != http.StatusOK && links > 0 {
			t.Errorf("%d links: %d, %d links", n, got.status, links)
		}
	}
}

// TestAHeadIsWorthWhatAGetIs: a server that answers each HEAD with 200 has not each image.
func TestAHeadIsWorthWhatAGetIs(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 404, 429, 503} {
		s := start(t, Config{}, host(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.Header().Set("Retry-After", "77")
				w.WriteHeader(code)
			}
		}))
		got := s.do(http.MethodHead, manifestPath)
		if said := got.header.Get("Retry-After"); got.status != code || code >= 429 && said != "77" {
			t.Errorf("%d instead of %d, Retry-After %q", got.status, code, said)
		}
	}
}

// TestATokenServersWaitAfterAHead: it limits us only when the GET asks it.
func TestATokenServersWaitAfterAHead(t *testing.T) {
	t.Parallel()
	s := start(t, Config{}, host(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(http.StatusTooManyRequests)
		case r.Method == http.MethodGet:
			w.Header().Set("Www-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	if got := s.do(http.MethodHead, manifestPath); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "77" {
		t.Errorf("%d, Retry-After %q", got.status, got.header.Get("Retry-After"))
	}
}

// TestAHeadThatSaysTooLittleIsCompleted: the image check goes by the body of such an
// answer, and containerd by its header.
func TestAHeadThatSaysTooLittleIsCompleted(t *testing.T) {
	t.Parallel()
	img, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{"", "text/plain", "application/json; charset=utf-8"} {
		s := start(t, Config{}, host(t, body(said, data)))
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			got := s.do(method, manifestPath)
			h := got.header
			if got.status != http.StatusOK || h.Get("Content-Type") != judge.DockerManifest ||
				h.Get("Docker-Content-Digest") != judge.DigestLike("", data) || h.Get("Content-Length") != strconv.Itoa(len(data)) {
				t.Errorf("%s of %q: %d %v", method, said, got.status, h)
			}
		}
	}
}

// TestTheDigestOfSchema1IsTheRegistrys: it is not that of the bytes, which are signed.
func TestTheDigestOfSchema1IsTheRegistrys(t *testing.T) {
	t.Parallel()
	const kind, digest = "application/vnd.docker.distribution.manifest.v1+prettyjws", "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	s := start(t, Config{}, host(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Docker-Content-Digest", digest)
		_, _ = io.WriteString(w, `{"schemaVersion": 1, "fsLayers": [], "signatures": []}`)
	}))
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		got := s.do(method, manifestPath)
		if got.status != http.StatusOK || got.header.Get("Content-Type") != kind || got.header.Get("Docker-Content-Digest") != digest {
			t.Errorf("%s: %d %v", method, got.status, got.header)
		}
	}
}
