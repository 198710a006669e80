package handoff

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/pki"
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

// TestMirrorsAreClosedFromTheFirstByte: users' credentials are in the file, so
// nobody but its owner may read it before it is complete.
func TestMirrorsAreClosedFromTheFirstByte(t *testing.T) {
	t.Parallel()
	for _, kill := range []durabletest.Kill{durabletest.Half, durabletest.Unended} {
		f, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		f.fsys = durabletest.NewProcess(1, kill).FS(f.fsys)
		data, err := json.Marshal("password")
		if err != nil {
			t.Fatal(err)
		}
		if f.write(f.nodePath(fileMirrors), os.Getegid(), data) == nil {
			t.Fatal("nothing was killed")
		}
		info, err := os.Stat(f.nodePath(fileMirrors) + ".new")
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", kill, info, err)
		}
	}
}
