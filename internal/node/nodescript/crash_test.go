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
				if err != nil || at < 5 {
					t.Errorf("%v after %d operations", err, at-1)
				}
				break
			}
		}
	}
}

// What a crash left of a file that was being written is removed by the next agent that
// has the lock, and the note that all is done comes after the events are gone.
func TestWhatACrashLeaves(t *testing.T) {
	t.Parallel()
	f, err := openStateDir(Host{Root: "/"}, filepath.Join(t.TempDir(), "scripts"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.close() }()
	dying := *f
	dying.fsys = durabletest.NewProcess(1, durabletest.Half).FS(f.fsys)
	_ = dying.write(doneFile, []byte("{}"), 0o600) // it dies
	dying.fsys = durabletest.NewProcess(1, durabletest.Half).FS(f.fsys)
	_ = dying.write(stepsDir+"/a", []byte("exit 0"), 0o700)
	left := func() int { return len(f.list(".")) + len(f.list(stepsDir)) }
	before := left()
	unlock, err := f.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if after := left(); after != before-1 { // two are gone, and the lock is new
		t.Errorf("%d files before, %d after: %q %q", before, after, f.list("."), f.list(stepsDir))
	}
	seen := &durabletest.FS{FS: f.fsys}
	f.fsys = seen
	if err := f.complete(done{Checksum: "a"}); err != nil {
		t.Fatal(err)
	}
	if first := seen.Changes[0].String(); first != "sync "+eventsDir {
		t.Errorf("the first operation is %q of %v", first, seen.Changes)
	}
}
