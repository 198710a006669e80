package blob_test

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// fewFiles is a disk of a process that may open no more files.
type fewFiles struct {
	disk.FS
	err atomic.Pointer[error]
}

func (d *fewFiles) Open(name string) (disk.File, error) { return d.open(name, d.FS.Open) }
func (d *fewFiles) Edit(name string) (disk.File, error) { return d.open(name, d.FS.Edit) }

func (d *fewFiles) open(name string, open func(string) (disk.File, error)) (disk.File, error) {
	if err := d.err.Load(); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: *err}
	}
	return open(name)
}

// TestTooManyFiles: that no more files can be opened is nobody's damage, and loses nothing.
func TestTooManyFiles(t *testing.T) {
	t.Parallel()
	for _, why := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		folder, err := disk.OpenFolder(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		d := &fewFiles{FS: folder}
		s, err := blob.Open(t.Context(), d, blob.Options{Boot: "boot"})
		if err != nil {
			t.Fatal(err)
		}
		data := content(1000)
		p := begin(t, s, digestOf(data), len(data))
		if _, err := p.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.Verify(), p.Commit(), p.Close()); err != nil {
			t.Fatal(err)
		}
		part := begin(t, s, digestOf(nil), 1000)
		if _, err := part.WriteAt(data[:300], 0); err != nil {
			t.Fatal(err)
		}
		if err := part.Close(); err != nil {
			t.Fatal(err)
		}
		d.err.Store(&why)
		if _, err := s.Begin(digestOf(nil), 1000); !errors.Is(err, why) {
			t.Errorf("%v", err)
		}
		if _, err := s.Open(digestOf(data)); err == nil || errors.Is(err, blob.ErrDamaged) {
			t.Errorf("%v", err)
		}
		if err := s.Scrub(t.Context(), digestOf(data), nil); err == nil {
			t.Error("it was read")
		}
		d.err.Store(nil)
		if _, err := s.Open(digestOf(data)); err != nil {
			t.Errorf("it is lost: %v", err)
		}
		if part := begin(t, s, digestOf(nil), 1000); part.Covered(0) != 300 {
			t.Errorf("of what was kept there is left %d", part.Covered(0))
		}
	}
}
