package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestCrashWhileSaving kills either half at each operation of each file that it
// writes: what the next one reads is the old state or the new one.
func TestCrashWhileSaving(t *testing.T) {
	t.Parallel()
	type memory struct{ Generation int }
	saves := map[string]struct {
		save func(f StateDir, generation int) error
		read func(f StateDir) (string, error)
	}{
		"layout": {
			func(f StateDir, generation int) error { return f.SaveLayout(fmt.Appendf(nil, "%d", generation)) },
			func(f StateDir) (string, error) { data, err := read(f.servePath(fileLayout)); return string(data), err },
		},
		"memory": {
			func(f StateDir, generation int) error { return f.SaveMemory(memory{generation}) },
			func(f StateDir) (string, error) {
				var m memory
				err := f.Memory(&m)
				return fmt.Sprint(m.Generation), err
			},
		},
		"CA": {
			func(f StateDir, generation int) error {
				return f.SaveCA(pki.KeyPair{Cert: fmt.Sprint(generation), Key: fmt.Sprint(generation)})
			},
			// The key is saved first: the certificate is what counts.
			func(f StateDir) (string, error) { return f.CA() },
		},
	}
	for name, c := range saves {
		for _, kill := range durabletest.Kills() {
			for at := 1; ; at++ {
				f, err := Open(t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				if err := c.save(f, 1); err != nil {
					t.Fatal(err)
				}
				p := durabletest.NewProcess(at, kill)
				dying := f
				dying.fsys = p.FS(f.fsys)
				err = c.save(dying, 2)
				got, readErr := c.read(f)
				if readErr != nil || got != "1" && got != "2" || err == nil && got != "2" {
					t.Errorf("%s: killed at %q, %s: %q, %v", name, p.Steps(), kill, got, readErr)
				}
				if !p.Dead() {
					if err != nil || at < 4 {
						t.Errorf("%s: %v after %d operations", name, err, at-1)
					}
					break
				}
			}
		}
	}
}

// What was saved is served, or reported, in the next moment: by then it is on disk.
func TestSavedIsOnDisk(t *testing.T) {
	t.Parallel()
	f, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, save := range map[string]func(StateDir) error{
		f.servePath(fileLayout): func(f StateDir) error { return f.SaveLayout([]byte("x")) },
		f.nodePath(fileMemory):  func(f StateDir) error { return f.SaveMemory(1) },
	} {
		seen := &durabletest.FS{FS: f.fsys}
		if err := save(f.On(seen)); err != nil {
			t.Fatal(err)
		}
		last := len(seen.Changes) - 1
		if last < 1 || seen.Changes[last-1].String() != "rename "+name || seen.Changes[last].String() != "sync "+filepath.Dir(name) {
			t.Errorf("%s: %v", name, seen.Changes)
		}
	}
}

// TestMirrorsAreForServe: users' credentials are in the file, and only the group of
// the serving half may read it too.
func TestMirrorsAreForServe(t *testing.T) {
	t.Parallel()
	const group = 12345
	f, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(f.servePath(""), 12345, group); err != nil {
		t.Skip("skipped: not root:", err)
	}
	if _, err := f.SaveMirrors([]upstream.UserHost{{}}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(f.nodePath(fileMirrors))
	if err != nil {
		t.Fatal(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode() != 0o640 || int(stat.Uid) != os.Geteuid() || stat.Gid != group {
		t.Errorf("%s, %+v", info.Mode(), stat)
	}
}
