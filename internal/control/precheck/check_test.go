package precheck

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/upstream"
)

const secret = "s3cr3t/&pass"

// fakeRegistry is a registry of manifests whose answers a test can change.
type fakeRegistry struct {
	mu      sync.Mutex
	answers map[string]func(http.ResponseWriter, *http.Request)
	all     func(http.ResponseWriter, *http.Request) bool
	asked   atomic.Int64
	atOnce  atomic.Int64
	most    atomic.Int64
}

func (s *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	if now := s.atOnce.Add(1); now > s.most.Load() {
		s.most.Store(now)
	}
	defer s.atOnce.Add(-1)
	s.mu.Lock()
	all, answer := s.all, s.answers[r.URL.Path]
	s.mu.Unlock()
	switch {
	case all != nil && all(w, r):
	case r.URL.Path == "/v2/":
	case answer != nil:
		answer(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *fakeRegistry) put(path string, answer func(http.ResponseWriter, *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = answer
}

// putMany puts that many images, and names them.
func (s *fakeRegistry) putMany(n int) []string {
	images := make([]string, n)
	for i := range images {
		images[i] = fmt.Sprintf("m%03d:v1", i)
		s.put(fmt.Sprintf("/v2/sys/d8/m%03d/manifests/v1", i), image)
	}
	return images
}

func (s *fakeRegistry) refuse(all func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = all
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// manifest is that of an image that no other id has.
func manifest(id string) []byte {
	return []byte(`{"schemaVersion":2,"mediaType":"` + judge.OCIManifest + `","config":{"digest":"` + digestOf(id) + `"},"layers":[]}`)
}

// serve answers with a manifest as registries do.
func serve(mediaType string, data []byte) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Docker-Content-Digest", digestOf(string(data)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(data)
		}
	}
}

func image(w http.ResponseWriter, r *http.Request) { serve(judge.OCIManifest, manifest("x"))(w, r) }

// putIndex puts an index and the children of the architectures that are there.
func (s *fakeRegistry) putIndex(repository string, there []string, architectures ...string) {
	var parts []string
	for _, a := range architectures {
		child := manifest(a)
		parts = append(parts, `{"digest":"`+digestOf(string(child))+`","platform":{"architecture":"`+a+`","os":"linux"}}`)
		if slices.Contains(there, a) {
			s.put(repository+"/manifests/"+digestOf(string(child)), serve(judge.OCIManifest, child))
		}
	}
	s.put(repository+"/manifests/1", serve(judge.OCIIndex, []byte(`{"schemaVersion":2,"manifests":[`+strings.Join(parts, ",")+`]}`)))
}

func open(t *testing.T) (*fakeRegistry, upstream.Upstream, Checker) {
	t.Helper()
	s := &fakeRegistry{answers: map[string]func(http.ResponseWriter, *http.Request){}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	u := upstream.Upstream{
		Host: strings.TrimPrefix(server.URL, "http://"), Path: "sys/d8", Scheme: upstream.HTTP,
		Credentials: upstream.Credentials{Username: "u", Password: secret},
	}
	return s, u, Checker{Transport: func(u upstream.Upstream) (http.RoundTripper, error) { return transport.New(u) }}
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestCheckFindsEveryForm(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	d := digestOf(string(manifest("x")))
	s.put("/v2/sys/d8/manifests/v1", image)
	s.put("/v2/sys/d8/manifests/"+d, image)
	s.put("/v2/sys/d8/alpha/manifests/"+d, image)
	s.put("/v2/sys/d8/alpha/manifests/v2", image)
	images := []string{":v1", "@" + d, "alpha@" + d, "alpha:v2", "alpha:v2@" + d, ":v1"}
	report := c.Check(t.Context(), Request{Fingerprint: "f", Upstream: u, Images: images})
	if report.Done != 5 || report.Total != 5 || report.At.IsZero() || report.Problem != "" || report.Fingerprint != "f" {
		t.Errorf("got %+v", report)
	}
}

func TestCheckNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	s.put("/v2/sys/d8/manifests/v1", image)
	images := []string{":v1"}
	for i := range 7 {
		images = append(images, fmt.Sprintf("m%d:v1", i))
	}
	report := c.Check(t.Context(), Request{Upstream: u, Images: images, Sources: map[string]string{"m0:v1": "module/m0"}})
	if report.Done != 1 || report.FailureCount != 7 || len(report.Failures) != 5 || !report.At.IsZero() {
		t.Fatalf("got %+v", report)
	}
	want := switchover.CheckFailure{Source: "module/m0", Image: u.Base() + "/m0:v1", Error: "not found"}
	if report.Failures[0] != want {
		t.Errorf("got %+v, want %+v", report.Failures[0], want)
	}
}

func TestIndexMustHaveEachArchitecture(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	s.putIndex("/v2/sys/d8/both", []string{"amd64", "arm64"}, "amd64", "arm64", "s390x")
	s.putIndex("/v2/sys/d8/one", []string{"amd64"}, "amd64")
	s.putIndex("/v2/sys/d8/torn", []string{"amd64"}, "amd64", "arm64")
	s.put("/v2/sys/d8/plain/manifests/1", image)
	req := Request{Upstream: u, Images: []string{"both:1", "one:1", "plain:1", "torn:1"}}
	if report := c.Check(t.Context(), req); report.Done != 4 {
		t.Errorf("with no architectures given: %+v", report)
	}
	req.Architectures = []string{"amd64", "arm64"}
	report := c.Check(t.Context(), req)
	if report.Done != 2 || len(report.Failures) != 2 || report.Failures[0].Error != "the index has no manifest for arm64" ||
		report.Failures[1].Error != "the manifest for arm64 "+digestOf(string(manifest("arm64")))+" is not there" {
		t.Errorf("got %+v", report)
	}
}

// TestWhatIsNoImageDoesNotPass: no status makes an image.
func TestWhatIsNoImageDoesNotPass(t *testing.T) {
	t.Parallel()
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>welcome</html>")
	}
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   string
	}{
		"web page":       {page, "answered with a web page"},
		"error with 200": {serve("application/json", []byte(`{"error":"no such project"}`)), `answered with an error instead of a manifest: "no such project"`},
		"204":            {status(http.StatusNoContent), "answered 204 No Content, which is no answer to a pull"},
		"206":            {status(http.StatusPartialContent), "answered with a part, and the whole was asked for"},
		"empty":          {status(http.StatusOK), "answered with nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, u, c := open(t)
			s.refuse(func(w http.ResponseWriter, r *http.Request) bool { tc.answer(w, r); return true })
			report := c.Check(t.Context(), Request{Upstream: u, Images: s.putMany(157)})
			if report.Problem != tc.want || !report.At.IsZero() || report.Done != 0 {
				t.Errorf("got %+v", report)
			}
			if asked := s.asked.Load(); asked > 30 {
				t.Errorf("asked %d times for what was clear soon", asked)
			}
		})
	}
}

// TestMissingImagesAreNotBlamedOnCredentials: many registries answer 401 for all that
// they do not have.
func TestMissingImagesAreNotBlamedOnCredentials(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	var images []string
	for i := range 20 {
		images = append(images, fmt.Sprintf("m%02d:v1", i))
		answer := status(http.StatusUnauthorized)
		if i == 0 || i == 19 {
			answer = image
		}
		s.put(fmt.Sprintf("/v2/sys/d8/m%02d/manifests/v1", i), answer)
	}
	report := c.Check(t.Context(), Request{Upstream: u, Images: images})
	if report.Problem != "" || report.Done != 2 || report.FailureCount != 18 || !strings.Contains(report.Failures[0].Error, "it accepts us in general") {
		t.Errorf("got %+v", report)
	}
}

func TestARegistryThatRefusesUsIsOneProblem(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	images := s.putMany(157)
	for code, want := range map[int]string{401: "refused us although we had no credentials to show: 401 Unauthorized", 503: "503 Service Unavailable"} {
		s.refuse(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true })
		before := s.asked.Load()
		report := c.Check(t.Context(), Request{Upstream: u, Images: images})
		if report.Problem != want || len(report.Failures) != 0 {
			t.Errorf("%d: got %+v", code, report)
		}
		if asked := s.asked.Load() - before; asked > 2 {
			t.Errorf("%d: asked %d times with credentials that are refused", code, asked)
		}
	}
	s.refuse(nil)
	if report := c.Check(t.Context(), Request{Upstream: u, Images: images}); report.Done != 157 {
		t.Errorf("after the refusal: %+v", report)
	}
	if most := s.most.Load(); most > atOnce {
		t.Errorf("%d requests at once", most)
	}
}

func TestARegistryThatDiesInTheMiddleIsLeftAlone(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	images := s.putMany(50)
	s.refuse(func(w http.ResponseWriter, _ *http.Request) bool {
		if s.asked.Load() < 10 {
			return false
		}
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	report := c.Check(t.Context(), Request{Upstream: u, Images: images})
	if report.Problem != "502 Bad Gateway" || s.asked.Load() > 25 {
		t.Errorf("asked %d times, got %+v", s.asked.Load(), report)
	}
}

func TestSomeRegistriesForbidWhatTheyLack(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	s.put("/v2/sys/d8/a/manifests/1", status(http.StatusForbidden))
	s.put("/v2/sys/d8/b/manifests/1", image)
	report := c.Check(t.Context(), Request{Upstream: u, Images: []string{"a:1", "b:1"}})
	if report.Problem != "" || report.Done != 1 || report.FailureCount != 1 {
		t.Errorf("got %+v", report)
	}
}

func TestWithoutImagesTheWayInIsTried(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	if report := c.Check(t.Context(), Request{Upstream: u}); report.At.IsZero() || s.asked.Load() != 1 {
		t.Errorf("got %+v after %d requests", report, s.asked.Load())
	}
	s.refuse(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(401); return true })
	if report := c.Check(t.Context(), Request{Upstream: u}); !report.At.IsZero() || report.Problem == "" {
		t.Errorf("got %+v", report)
	}
}

func TestErrorsCarryNoSecret(t *testing.T) {
	t.Parallel()
	_, u, _ := open(t)
	c := Checker{Transport: func(upstream.Upstream) (http.RoundTripper, error) {
		return broken{fmt.Errorf("GET https://u:%s@r/blob?X-Amz-Signature=abc: dial tcp: no route", secret)}, nil
	}}
	report := c.Check(t.Context(), Request{Upstream: u, Images: []string{":1"}})
	if !strings.Contains(report.Problem, "no route") || strings.Contains(report.Problem, secret) || strings.Contains(report.Problem, "Signature") {
		t.Errorf("got %q", report.Problem)
	}
}

type broken struct{ err error }

func (b broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, b.err }

func TestSlowRegistryTimesOut(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	s.refuse(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	c.Timeout = 20 * time.Millisecond
	if report := c.Check(t.Context(), Request{Upstream: u, Images: []string{":1"}}); report.Problem != "Request timeout" {
		t.Errorf("got %+v", report)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report := c.Check(ctx, Request{Upstream: u, Images: []string{":1"}}); report.Problem == "" || !report.At.IsZero() {
		t.Errorf("a check that was interrupted passed: %+v", report)
	}
}

func TestBadReferencesAreFailuresOfTheirOwn(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	s.put("/v2/sys/d8/manifests/1", image)
	s.put("/v2/sys/d8/x/manifests/"+digestOf("a"), serve(judge.OCIManifest, manifest("b")))
	report := c.Check(t.Context(), Request{Upstream: u, Images: []string{":1", "x@sha256:zz", "x@" + digestOf("a")}})
	if report.Done != 1 || report.FailureCount != 2 {
		t.Errorf("got %+v", report)
	}
}
