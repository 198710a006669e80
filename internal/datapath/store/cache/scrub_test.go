package cache

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

// What the disk has changed is found, and comes again.
func TestScrub(t *testing.T) {
	t.Parallel()
	r, img := one(t, 100_000)
	s := start(t, Config{}, r.Upstream("team"))
	digest, data := content(t, img, 0)
	s.wantBlob(s.get(blobPath(digest)), data)
	s.stored(digest)
	name := filepath.Join(s.folder, "blobs", strings.Replace(digest, ":", "/", 1))
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append([]byte{data[0] + 1}, data[1:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cache.scrubAll(t.Context(), func(context.Context, int) error { return nil })
	if s.cache.has(digest) || s.cache.Usage().Kept != 0 || s.metric("registry_store_corrupt_total", "") != 1 {
		t.Errorf("it is kept: %+v", s.cache.Usage())
	}
	s.wantBlob(s.get(blobPath(digest)), data)
}

// What the disk does not give back is known for what it is, also a file that was cut: it is taken
// out, and comes again.
func TestWhatIsReadIsDamaged(t *testing.T) {
	t.Parallel()
	r, img := one(t, 100_000)
	s := start(t, Config{}, r.Upstream("team"))
	digest, data := content(t, img, 0)
	s.wantBlob(s.get(blobPath(digest)), data)
	s.stored(digest)
	if err := os.Truncate(filepath.Join(s.folder, "blobs", strings.Replace(digest, ":", "/", 1)), 50_000); err != nil {
		t.Fatal(err)
	}
	s.wantBlob(s.get(blobPath(digest)), data)
	if n := s.metric("registry_store_bypass_total", "damaged"); n != 1 || s.cache.has(digest) || s.cache.Usage().Kept != 0 {
		t.Errorf("%f times, %+v", n, s.cache.Usage())
	}
	s.wantBlob(s.get(blobPath(digest)), data)
	s.stored(digest)
}

// It is looked for as long as the process runs, and not at once. Where nobody looks, what the disk has
// changed stays for good.
func TestScrubInTime(t *testing.T) {
	t.Parallel()
	for name, never := range map[string]bool{"as it ships": false, "nobody looks": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { scrubInTime(t, never) })
		})
	}
}

func scrubInTime(t *testing.T, never bool) {
	d := disktest.New()
	digest := "sha256:" + someHex
	c, err := Open(t.Context(), Config{FS: d.Process(nil), Boot: "boot", Quota: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	d.Put("blobs/sha256/"+someHex, 0o444, []byte("not nothing"))
	if c, err = Open(t.Context(), Config{FS: d.Process(nil), Boot: "boot", Quota: 1 << 20, Promises: Promises{noScrub: never}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { defer close(ran); c.Run(ctx) }()
	wait(t, scrubFirst-time.Second)
	if !c.has(digest) {
		t.Error("at once")
	}
	wait(t, 2*time.Second)
	synctest.Wait()
	if c.has(digest) != never {
		t.Errorf("it is kept: %t", c.has(digest))
	}
	cancel()
	<-ran
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
