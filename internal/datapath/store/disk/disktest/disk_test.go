package disktest_test

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

const seeds = 60

// outcomes are what a power cut can leave of a file, over many seeds.
func outcomes(d *disktest.Disk, name string) []string {
	var all []string
	for seed := range uint64(seeds) {
		cut := d.Clone()
		cut.PowerCut(seed)
		is := "no file"
		if data, ok := cut.Files()[name]; ok {
			is = string(data)
		}
		if !slices.Contains(all, is) {
			all = append(all, is)
		}
	}
	slices.Sort(all)
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, fsys disk.FS, name, text string) disk.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte(text), 0)
	must(t, err)
	return f
}

// TestPowerCut: what was synced is left, of what was not any part, and a kill keeps all.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	zeros := string(make([]byte, 3))
	for name, row := range map[string]struct {
		do   func(p *disktest.Process)
		want []string
	}{
		"nothing synced": {func(p *disktest.Process) { create(t, p, "f", "new") }, []string{"", zeros, "new", "no file"}},
		"bytes synced":   {func(p *disktest.Process) { must(t, create(t, p, "f", "new").Sync()) }, []string{"new", "no file"}},
		"name synced": {func(p *disktest.Process) {
			create(t, p, "f", "new")
			must(t, p.SyncDir("."))
		}, []string{"", zeros, "new"}},
		"both": {func(p *disktest.Process) {
			must(t, create(t, p, "f", "new").Sync())
			must(t, p.SyncDir("."))
		}, []string{"new"}},
		"removed": {func(p *disktest.Process) {
			must(t, create(t, p, "f", "new").Sync())
			must(t, p.SyncDir("."))
			must(t, p.Remove("f"))
		}, []string{"new", "no file"}},
		"renamed without Sync": {func(p *disktest.Process) {
			must(t, create(t, p, "f", "old").Sync())
			must(t, p.SyncDir("."))
			create(t, p, "g", "new")
			must(t, p.Rename("g", "f"))
		}, []string{"", zeros, "new", "old"}},
		"a Sync that failed": {func(p *disktest.Process) {
			f := create(t, p, "f", "new")
			must(t, p.SyncDir("."))
			if err := f.Sync(); !errors.Is(err, syscall.EIO) {
				t.Error(err)
			}
			must(t, f.Sync())
		}, []string{zeros}},
	} {
		d := disktest.New()
		failed := false
		p := d.Process(func(s disktest.Step) disktest.Fault {
			if name == "a Sync that failed" && s.Op == disktest.Sync && !failed {
				failed = true
				return disktest.Fault{Err: syscall.EIO}
			}
			return disktest.Fault{}
		})
		row.do(p)
		before := d.Files()["f"]
		p.Kill()
		if _, err := p.Open("f"); !errors.Is(err, disktest.ErrKilled) {
			t.Errorf("%s: a dead process does something: %v", name, err)
		}
		if string(d.Files()["f"]) != string(before) {
			t.Errorf("%s: a kill changed a file", name)
		}
		if got := outcomes(d, "f"); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

// TestSpace: a full disk takes what fits, and has room again when a file is gone for all.
func TestSpace(t *testing.T) {
	t.Parallel()
	d := disktest.New()
	d.SetFree(10)
	p := d.Process(nil)
	f := create(t, p, "f", "123456")
	if n, err := f.WriteAt([]byte("789abc"), 6); n != 4 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d bytes were written: %v", n, err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Errorf("what is there is not written again: %v", err)
	}
	must(t, p.Remove("f"))
	if _, free, _ := p.Space(); free != 0 {
		t.Errorf("%d bytes are free while it is read", free)
	}
	must(t, f.Close())
	if _, free, _ := p.Space(); free != 10 {
		t.Errorf("%d bytes are free", free)
	}
}
