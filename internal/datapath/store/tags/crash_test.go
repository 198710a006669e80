package tags

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

// change is one of what a process does; what is not known any more has no digest.
type change struct {
	key    Key
	digest string
}

func changes() []change {
	a, b := Key{place, "a/b", "v1"}, Key{place, "a", "b"}
	return []change{{a, digest(1)}, {a, digest(2)}, {b, digest(3)}, {a, ""}, {b, digest(4)}}
}

// do makes the changes, and says how many are on disk, by its word.
func do(fsys disk.FS) int {
	tags, err := Open(fsys)
	for n, c := range changes() {
		switch {
		case err != nil:
		case c.digest == "":
			tags.Forget(c.key)
			err = tags.Write()
		default:
			err = put(tags, c.key, Meaning{Digest: c.digest})
		}
		if err != nil {
			return n
		}
	}
	return len(changes())
}

// after is what is known after so many changes.
func after(n int) map[Key]string {
	known := map[Key]string{}
	for _, c := range changes()[:min(n, len(changes()))] {
		if known[c.key] = c.digest; c.digest == "" {
			delete(known, c.key)
		}
	}
	return known
}

func read(t *testing.T, d *disktest.Disk) map[Key]string {
	t.Helper()
	tags, err := Open(d.Process(nil))
	if err != nil {
		t.Fatal(err)
	}
	known := map[Key]string{}
	for k, m := range tags.known {
		known[k] = m.Digest
	}
	return known
}

// Killed before, in and after each step, with the power cut then or after the next process:
// what was noted is known, and nothing else is.
func TestTagsSurvive(t *testing.T) {
	t.Parallel()
	if problem := survive(t, func(f disk.FS) disk.FS { return f }); problem != "" {
		t.Error(problem)
	}
}

// TestLostTagsAreNoticed: the same test fails where something is not waited for.
func TestLostTagsAreNoticed(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(disk.FS) disk.FS{
		"no Sync":    func(f disk.FS) disk.FS { return noSync{f} },
		"no SyncDir": func(f disk.FS) disk.FS { return noSyncDir{f} },
	} {
		if survive(t, wrap) == "" {
			t.Errorf("%s: nobody notices", name)
		}
	}
}

type noSyncDir struct{ disk.FS }

func (noSyncDir) SyncDir(string) error { return nil }

type noSync struct{ disk.FS }

func (n noSync) Create(name string) (disk.File, error) {
	f, err := n.FS.Create(name)
	return unsynced{f}, err
}

type unsynced struct{ disk.File }

func (unsynced) Sync() error { return nil }

// survive is what is wrong after a kill or a power cut, of a process that has the disk as wrap shows it.
func survive(t *testing.T, wrap func(disk.FS) disk.FS) (problem string) {
	t.Helper()
	for _, effect := range []disktest.Effect{disktest.Nothing, disktest.Half, disktest.Done} {
		for at, dead := 1, true; dead; at++ {
			d := disktest.New()
			p := d.Process(disktest.Kill(at, effect))
			noted := do(wrap(p))
			dead = p.Dead()
			for seed := range uint64(12) {
				name := fmt.Sprintf("step %d, effect %d, seed %d", at, effect, seed)
				cut := d.Clone()
				cut.PowerCut(seed)
				got := read(t, cut)
				if !slices.ContainsFunc([]int{noted, noted + 1}, func(n int) bool { return maps.Equal(got, after(n)) }) {
					return fmt.Sprintf("%s: %v after %d changes\n%s", name, got, noted, cut)
				}
				again := d.Clone()
				if n := do(wrap(again.Process(nil))); n != len(changes()) {
					return fmt.Sprintf("%s: the next process made %d changes", name, n)
				}
				again.PowerCut(seed)
				if got := read(t, again); !maps.Equal(got, after(len(changes()))) {
					return fmt.Sprintf("%s: %v after the next process\n%s", name, got, again)
				}
			}
		}
	}
	return ""
}
