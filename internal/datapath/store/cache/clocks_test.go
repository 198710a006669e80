package cache

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestWrongClocks: a process finds all that the one before it left dated ten years back, and the next one
// ten years ahead. Nothing is evicted because of it, an old answer does not count as fresh, and what is
// gone at the registry is not served for longer. That the time since counts, in minutes of running, is the
// control: see the end.
func TestWrongClocks(t *testing.T) {
	t.Parallel()
	const ten = 10 * 365 * 24 * time.Hour
	r, img := one(t, 100_000)
	s := start(t, Config{Idle: 100}, r.Upstream("team"))
	digest, data := content(t, img, 0)
	s.get(manifestPath("v1"))
	s.wantBlob(s.get(blobPath(digest)), data)
	s.stored(digest)
	for _, by := range []time.Duration{-ten, ten, -ten} {
		s.close()
		dated(t, s.folder, time.Now().Add(by))
		s.open()
		for range 10 {
			if err := s.cache.Tick(); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.cache.Usage(); got.Evicted.Blobs != 0 {
			t.Errorf("%s: %d blobs were evicted", by, got.Evicted.Blobs)
		}
		before := r.Bytes(digest)
		s.wantBlob(s.get(blobPath(digest)), data)
		if r.Bytes(digest) != before {
			t.Errorf("%s: it was fetched again", by)
		}
		img = image(t, 1, 1000)
		r.Push(t, "team/tool", "v1", img)
		if m := s.get(manifestPath("v1")); m.header.Get("Docker-Content-Digest") != digestOf(t, img) {
			t.Errorf("%s: an old answer counts as fresh: %d %v", by, m.status, m.header)
		}
	}
	s.close()
	dated(t, s.folder, time.Now().Add(ten))
	s.open()
	r.SetFaults(testregistry.Faults{Status: http.StatusNotFound})
	if m := s.get(manifestPath("v1")); m.status != http.StatusNotFound {
		t.Errorf("what is gone is served: %d", m.status)
	}
	for range 101 { // the same number of minutes that count
		if err := s.cache.Tick(); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.cache.Usage(); got.Evicted.Blobs == 0 {
		t.Error("nothing goes after its time either, so that the test shows nothing")
	}
}

// dated has all files and folders be of a time.
func dated(t *testing.T, folder string, at time.Time) {
	t.Helper()
	err := filepath.WalkDir(folder, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(name, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}
