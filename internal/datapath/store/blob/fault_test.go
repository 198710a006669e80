package blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

// TestFailingOperations: one operation of the disk fails, whichever: the same process gets to
// the end when it is asked again, and what it promised is there after a kill and a power cut. A Sync
// that failed has lost bytes, of which the next one knows nothing.
func TestFailingOperations(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			for _, fault := range []disktest.Fault{{Err: syscall.ENOSPC, Effect: disktest.Half}, {Err: syscall.EIO}} {
				for at := 1; ; at++ {
					w := newWorld(t)
					if sc.before != nil {
						if err := w.process(w.disk.Process(nil), sc.before); err != nil {
							t.Fatalf("before: %v", err)
						}
						w.disk.Settle()
					}
					where := ""
					p := w.disk.Process(func(s disktest.Step) disktest.Fault {
						if s.N != at {
							return disktest.Fault{}
						}
						where = fmt.Sprintf("%v fails with %v", s, fault.Err)
						return fault
					})
					if err := w.untilDone(p, sc); err != nil {
						t.Errorf("%s: %v", where, err)
					}
					p.Kill()
					worlds := []*world{w.on(w.disk.Clone(), w.boot)}
					for seed := range uint64(5) {
						cut := w.on(w.disk.Clone(), "second")
						cut.disk.PowerCut(seed)
						worlds = append(worlds, cut)
					}
					for i, after := range worlds {
						if err := after.check(sc); err != nil {
							t.Errorf("%s, world %d: %v", where, i, err)
						}
					}
					if where == "" {
						break
					}
				}
			}
		})
	}
}

// untilDone runs a scenario, and what of it failed once more in the same process.
func (w *world) untilDone(p *disktest.Process, sc scenario) error {
	again := func(w *world, s *blob.Store) error {
		if err := sc.run(w, s); err != nil {
			return sc.run(w, s)
		}
		return nil
	}
	if err := w.process(p, again); err != nil {
		return w.process(p, again)
	}
	return nil
}

// TestFullDisk: a disk that is full fails the one write, and all that came stays and goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := disktest.New()
	s := onDisk(t, d, nil)
	data := content(10_000)
	p := begin(t, s, digestOf(data), len(data))
	d.SetFree(6000)
	n, err := p.WriteAt(data[:5000], 0)
	if n != 5000 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := p.WriteAt(data[5000:], 5000); n != 0 || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), digestOf(data)) {
		t.Errorf("%d bytes were written: %v", n, err)
	}
	if to := p.Covered(0); to != 5000 {
		t.Errorf("%d bytes are there", to)
	}
	d.SetFree(1 << 20)
	if _, err := p.WriteAt(data[5000:], 5000); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Verify(), p.Commit(), p.Close()); err != nil {
		t.Error(err)
	}
}

// TestUnwritten: where bytes that were taken before are not on the disk nobody knows which are, and nothing
// of it is kept or becomes a blob.
func TestUnwritten(t *testing.T) {
	t.Parallel()
	d, data := disktest.New(), content(10_000)
	writes := 0
	s := onDisk(t, d, func(disk.FS) disk.FS {
		return d.Process(func(step disktest.Step) disktest.Fault {
			if step.Op == "write" && strings.HasPrefix(step.Name, "partial/") {
				if writes++; writes == 2 {
					return disktest.Fault{Err: disk.ErrUnwritten}
				}
			}
			return disktest.Fault{}
		})
	})
	p := begin(t, s, digestOf(data), len(data))
	if _, err := p.WriteAt(data[:5000], 0); err != nil {
		t.Fatal(err)
	}
	if _, err := p.WriteAt(data[5000:], 5000); !errors.Is(err, disk.ErrUnwritten) {
		t.Fatalf("%v, after %d writes", err, writes)
	}
	if _, err := p.WriteAt(data[5000:], 5000); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Verify(), p.Commit()); !errors.Is(err, disk.ErrUnwritten) {
		t.Errorf("it became a blob: %v", err)
	}
	_ = p.Close()
	if _, left := s.Kept(digestOf(data)); left {
		t.Error("it is kept for the next process")
	}
}

// TestDamaged: what the disk does not give back, or gives back changed, is taken out by
// Scrub, and by nothing else.
func TestDamaged(t *testing.T) {
	t.Parallel()
	data := content(200_000)
	digest := digestOf(data)
	name := "blobs/" + strings.Replace(digest, ":", "/", 1)
	for what, row := range map[string]struct {
		harm       func(d *disktest.Disk)
		read, want error
	}{
		"nothing": {func(*disktest.Disk) {}, nil, nil},
		"a bit":   {func(d *disktest.Disk) { d.Flip(name, 150_000) }, nil, blob.ErrDigest},
		"EIO":     {func(d *disktest.Disk) { d.Damage(name) }, blob.ErrDamaged, blob.ErrDamaged},
		"its end": {func(d *disktest.Disk) { d.Cut(name, 199_999) }, blob.ErrDamaged, blob.ErrDamaged},
	} {
		d := disktest.New()
		s := onDisk(t, d, nil)
		put(t, s, digest, data)
		row.harm(d)
		b, err := s.Open(digest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadAt(make([]byte, len(data)), 0); !errors.Is(err, row.read) || row.read != nil && errors.Is(err, io.EOF) {
			t.Errorf("%s: read: %v", what, err)
		}
		if _, ok := s.Stat(digest); !ok {
			t.Errorf("%s: a read took it out", what)
		}
		enough := errors.New("enough")
		if err := s.Scrub(t.Context(), digest, func(context.Context, int) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("%s: it does not end: %v", what, err)
		}
		paced := 0
		err = s.Scrub(t.Context(), digest, func(_ context.Context, n int) error { paced += n; return nil })
		if _, ok := s.Stat(digest); !errors.Is(err, row.want) || ok != (row.want == nil) {
			t.Errorf("%s: %v, it is still there: %v", what, err, ok)
		}
		if row.want == nil && paced != len(data) {
			t.Errorf("%s: paced for %d bytes", what, paced)
		}
		if row.want != nil {
			put(t, s, digest, data)
		}
		if got := get(t, s, digest); string(got) != string(data) {
			t.Errorf("%s: other bytes", what)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSeveralMeetTheDamage: whoever meets it first has the blob taken out, also who reads on from
// what it came by; the others leave what came in its place.
func TestSeveralMeetTheDamage(t *testing.T) {
	t.Parallel()
	for first := range 3 {
		d := disktest.New()
		s := onDisk(t, d, nil)
		data := content(1000)
		digest := digestOf(data)
		p := begin(t, s, digest, len(data))
		if _, err := p.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.Verify(), p.Commit()); err != nil {
			t.Fatal(err)
		}
		one, err := s.Open(digest)
		another, err2 := s.Open(digest)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		d.Damage("blobs/" + strings.Replace(digest, ":", "/", 1))
		readers := []io.ReaderAt{p, one, another}
		for i := range readers {
			_, err := readers[(first+i)%len(readers)].ReadAt(make([]byte, 10), 0)
			if !errors.Is(err, blob.ErrDamaged) || errors.Is(err, io.EOF) {
				t.Errorf("%d, %d: %v", first, i, err)
			}
			if err := s.RemoveDamaged(err); err != nil {
				t.Error(err)
			}
			if _, there := s.Stat(digest); there == (i == 0) {
				t.Errorf("%d, after %d: it is there: %t", first, i, there)
			}
			if i == 0 {
				put(t, s, digest, data)
			}
		}
		if err := errors.Join(one.Close(), another.Close(), p.Close()); err != nil {
			t.Error(err)
		}
		if got := get(t, s, digest); string(got) != string(data) {
			t.Error("other bytes")
		}
	}
}

// TestRemovedWhileRead: who reads a blob reads on when it is removed, and when it has come again.
func TestRemovedWhileRead(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "a")
	data := content(100_000)
	put(t, s, digestOf(data), data)
	b, err := s.Open(digestOf(data))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	for range 2 {
		if err := s.Remove(digestOf(data)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(digestOf(data)); err == nil {
			t.Error("it is still there")
		}
		got := make([]byte, len(data))
		if _, err := b.ReadAt(got, 0); err != nil || string(got) != string(data) {
			t.Errorf("other bytes, %v", err)
		}
	}
}

// TestRemovedByHand: a file that somebody removed comes again.
func TestRemovedByHand(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	s := open(t, path, "a")
	data := content(100)
	digest := digestOf(data)
	put(t, s, digest, data)
	if err := os.Remove(filepath.Join(path, "blobs", strings.Replace(digest, ":", "/", 1))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened: %v", err)
	}
	if _, ok := s.Stat(digest); ok {
		t.Error("it is said to be there")
	}
	put(t, s, digest, data)
	if got := get(t, s, digest); string(got) != string(data) {
		t.Error("other bytes")
	}
}

// TestCommitsTogether: as many wait for the disk at once as help each other, and no more.
func TestCommitsTogether(t *testing.T) {
	t.Parallel()
	slow := &slowFS{at: make(chan struct{}), on: make(chan struct{})}
	s := onDisk(t, disktest.New(), func(f disk.FS) disk.FS { slow.FS = f; return slow })
	slow.hangs.Store(new("sync"))
	done := make(chan error)
	for i := range 4 {
		data := content(100 + i)
		p := begin(t, s, digestOf(data), len(data))
		if _, err := p.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		go func() { done <- errors.Join(p.Verify(), p.Commit(), p.Close()) }()
	}
	<-slow.at
	<-slow.at
	select {
	case <-slow.at:
		t.Error("three at once")
	case <-time.After(50 * time.Millisecond):
	}
	slow.hangs.Store(new(string))
	close(slow.on)
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if all := s.Blobs(); len(all) != 4 {
		t.Errorf("%v are there", all)
	}
}
