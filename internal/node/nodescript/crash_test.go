package nodescript

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/durable/durabletest"
)

// TestCrashWhileNoting kills an agent at each operation of noting that all
// scripts are done: the next one finds the run of before or this one, and never
// half of it, which would run everything again.
func TestCrashWhileNoting(t *testing.T) {
	t.Parallel()
	for _, kill := range durabletest.Kills() {
		for at := 1; ; at++ {
			f, err := openStateDir(Host{Root: "/"}, filepath.Join(t.TempDir(), "scripts"))
			if err != nil {
				t.Fatal(err)
			}
			old, next := done{Checksum: "a", BootID: "boot", At: time.Unix(1, 0).UTC()}, done{Checksum: "b", BootID: "boot", At: time.Unix(2, 0).UTC()}
			if err := f.complete(old); err != nil {
				t.Fatal(err)
			}
			p := durabletest.NewProcess(at, kill)
			dying := *f
			dying.fsys = p.FS(f.fsys)
			err = dying.complete(next)
			if got := f.last(); got != old && got != next || err == nil && got != next {
				t.Errorf("killed at %q, %s: %+v", p.Steps(), kill, got)
			}
			if cerr := f.close(); cerr != nil {
				t.Fatal(cerr)
			}
			if !p.Dead() {
				if err != nil || at < 4 {
					t.Errorf("%v after %d operations", err, at-1)
				}
				break
			}
		}
	}
}
