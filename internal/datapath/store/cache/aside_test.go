package cache

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/images"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestAside: a pull that no client waits for has what is there kept, and nothing fetched that is not to
// be. What a tag means is asked by nobody if only what is known is wanted.
func TestAside(t *testing.T) {
	t.Parallel()
	r, img := one(t, 10_000)
	s := start(t, Config{}, r.Upstream("team"))
	digest := digestOf(t, img)
	blob, data := content(t, img, 0)
	ask := func(path string, known bool, status int, why string) {
		t.Helper()
		a := &images.Aside{Known: known}
		answer := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(a.With(t.Context()), http.MethodGet, path, nil)
		if s.server.Config.Handler.ServeHTTP(answer, req); answer.Code != status || a.Why != why {
			t.Errorf("%s: %d, %q; want %d, %q", path, answer.Code, a.Why, status, why)
		}
	}
	ask(manifestPath("v1"), true, http.StatusNoContent, "")
	later := time.Now().Add(time.Hour)
	s.cache.full.Store(&later)
	ask(blobPath(blob), false, http.StatusServiceUnavailable, "full")
	if n := r.Count(func(testregistry.Request) bool { return true }); n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
	for range 2 {
		if got := s.get(manifestPath("v1")); got.status != http.StatusOK {
			t.Fatal(got.status)
		}
	}
	ask(manifestPath("v1"), true, http.StatusOK, "")
	s.cache.full.Store(nil)
	if s.get(manifestPath(digest)); s.cache.Has(digest) || s.cache.Manifest(digest) == nil {
		t.Error("the manifest is not in memory alone")
	}
	ask(manifestPath(digest), false, http.StatusOK, "")
	s.stored(digest)
	ask(blobPath(blob), false, http.StatusOK, "")
	s.stored(blob)
	s.wantBlob(s.get(blobPath(blob)), data)
}
