package proxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// host is an upstream that answers everything by one handler.
func host(t *testing.T, h http.HandlerFunc) upstream.Upstream {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return upstream.Upstream{Host: strings.TrimPrefix(server.URL, "http://"), Scheme: upstream.HTTP, Path: "team/x"}
}

// An old registry's host that shows a page to everybody must not stand before
// the registry that lives: containerd would take the page for the image and
// ask nobody else.
func TestPageIsNoAnswer(t *testing.T) {
	t.Parallel()
	parked := host(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<html>this domain is for sale</html>"))
	})
	_, b, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, parked, b.Upstream("team/b"))
	want, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s.get(manifestPath), want)
	digest, content := blob(t, img)
	wantBlob(t, s.get(blobPath(digest)), content)
	if got := s.do(http.MethodHead, manifestPath); got.status != http.StatusOK || got.header.Get("Content-Type") == "text/html; charset=utf-8" {
		t.Errorf("HEAD: %d %v", got.status, got.header)
	}
	tags := s.get("/v2/" + repo + "/tags/list?" + ns)
	if tags.status != http.StatusOK || !strings.Contains(string(tags.body), `"v1"`) {
		t.Errorf("tags: %d %s", tags.status, tags.body)
	}
	s.swap(2, parked)
	got := s.get(manifestPath)
	wantStatus(t, got, http.StatusBadGateway)
	if m := got.errors(t)[0].Message; !strings.Contains(m, "web page") {
		t.Errorf("message %q", m)
	}
}

// 407 is about a proxy of ours; containerd would take us for it.
func TestProxyThatRefusesIsABadGateway(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.SetFaults(testregistry.Faults{Status: 407})
	wantStatus(t, s.get(manifestPath), http.StatusOK)
	s.swap(2, a.Upstream("team/a"))
	wantStatus(t, s.get(manifestPath), http.StatusBadGateway)
}

// What is read as a whole before our header goes out is within the budget.
func TestBodiesThatAreRewrittenAreWithinTheBudget(t *testing.T) {
	t.Parallel()
	stall := func(status int, begin string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(begin))
			for {
				select { // never silent for long
				case <-r.Context().Done():
					return
				case <-time.After(100 * time.Millisecond):
					_, _ = w.Write([]byte(" "))
					_ = http.NewResponseController(w).Flush()
				}
			}
		}
	}
	_, b, img := pair(t, testregistry.Options{})
	digest, _ := blob(t, img)
	tags := "/v2/" + repo + "/tags/list?" + ns
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		path    string
		header  string
	}{
		"tags":  {stall(200, `{"name":"team/x/tool","tags":[`), tags, "If-None-Match"},
		"error": {stall(416, `{"errors":[`), blobPath(digest), "Range"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slow := host(t, tc.handler)
			s := start(t, Config{Budget: 2 * time.Second}, slow)
			if got := s.get(tc.path, tc.header, "bytes=0-"); got.status != http.StatusServiceUnavailable || got.took > 4*time.Second {
				t.Errorf("alone: %d after %s: %s", got.status, got.took, got.body)
			}
			both := start(t, Config{Budget: 4 * time.Second}, slow, b.Upstream("team/b"))
			if got := both.get(tc.path, tc.header, "bytes=0-"); got.status >= http.StatusMultipleChoices || got.took > 4*time.Second {
				t.Errorf("with another: %d after %s", got.status, got.took)
			}
		})
	}
}

func TestEndlessTagsAreNotCollected(t *testing.T) {
	t.Parallel()
	s := start(t, Config{}, host(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat(" ", 1<<16))); err != nil {
				return
			}
		}
	}))
	got := s.get("/v2/" + repo + "/tags/list?" + ns)
	wantStatus(t, got, http.StatusBadGateway)
	if m := got.errors(t)[0].Message; !strings.Contains(m, "answered with more than") {
		t.Errorf("message %q", m)
	}
}

// Manifests from a registry whose layers come from a dead machine do not make
// each next layer wait its whole share again.
func TestLayersOfADeadMachineAreRemembered(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{RedirectBlobs: "localhost"})
	s := start(t, Config{Budget: 8 * time.Second, Probe: 1}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.SetFaults(testregistry.Faults{Hang: true, Match: func(r *http.Request) bool { return r.URL.RawQuery == "signature=secret" }})
	digest, content := blob(t, img)
	wantBlob(t, s.get(blobPath(digest)), content)
	for range 2 {
		wantStatus(t, s.get(manifestPath), http.StatusOK)
		if got := s.get(blobPath(digest)); got.status != http.StatusOK || got.took > 3*time.Second {
			t.Errorf("%d after %s, want about 1 s", got.status, got.took)
		}
	}
}
