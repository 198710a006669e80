package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

// both are the two that implement FS.
func both(t *testing.T) map[string]disk.FS {
	folder, err := disk.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Close() })
	return map[string]disk.FS{"folder": folder, "model": disktest.New().Process(nil)}
}

func read(t *testing.T, f disk.File) string {
	t.Helper()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestFS holds the machine's folder and the model against what FS says.
func TestFS(t *testing.T) {
	t.Parallel()
	for kind, fsys := range both(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			none := func(what string, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			want := func(what string, err, want error) {
				t.Helper()
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
			none("a folder", fsys.Mkdir("a"))
			none("a folder again", fsys.Mkdir("a"))
			f, err := fsys.Create("a/f")
			none("a file", err)
			_, err = fsys.Create("a/f")
			want("a file again", err, fs.ErrExist)
			want("a folder of that name", fsys.Mkdir("a/f"), syscall.ENOTDIR)
			_, err = f.WriteAt([]byte("late"), 6)
			none("a hole", err)
			_, err = f.WriteAt([]byte("early "), 0)
			none("in it", err)
			if got := read(t, f); got != "early late" {
				t.Errorf("it has %q", got)
			}
			if n, err := f.ReadAt(make([]byte, 9), 5); n != 5 || !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %d, %v", n, err)
			}
			f.WriteBack()
			none("sync", f.Sync())
			none("seal", f.Seal())
			none("sync of the folder", fsys.SyncDir("a"))
			none("sync of the top", fsys.SyncDir("."))
			want("sync of nothing", fsys.SyncDir("b"), fs.ErrNotExist)

			g, err := fsys.Create("g")
			none("another", err)
			none("replace", fsys.Rename("a/f", "g"))
			h, err := fsys.Open("g")
			none("open", err)
			if got := read(t, h); got != "early late" || read(t, g) != "" {
				t.Errorf("%q has replaced", got)
			}
			_, err = h.WriteAt([]byte("x"), 0)
			if err == nil {
				t.Error("what was opened to be read is written")
			}
			none("remove", fsys.Remove("g"))
			if got := read(t, h); got != "early late" {
				t.Errorf("who reads on has %q", got)
			}
			for _, file := range []disk.File{f, g, h} {
				none("close", file.Close())
				_, err := file.ReadAt(make([]byte, 1), 0)
				want("read after that", err, fs.ErrClosed)
			}
			_, err = fsys.Open("g")
			want("open what is gone", err, fs.ErrNotExist)
			_, err = fsys.Edit("g")
			want("edit what is gone", err, fs.ErrNotExist)
			want("remove what is gone", fsys.Remove("g"), fs.ErrNotExist)
			want("rename what is gone", fsys.Rename("g", "a/f"), fs.ErrNotExist)

			_, err = fsys.Create("a/f")
			none("a file", err)
			if err := fsys.Remove("a"); err == nil {
				t.Error("a folder was removed that is not empty")
			}
			in, err := fsys.ReadDir("a")
			if err != nil || len(in) != 1 || in[0].Name() != "f" || !in[0].Type().IsRegular() {
				t.Errorf("in the folder is %v, %v", in, err)
			}
			none("out", fsys.Remove("a/f"))
			none("an empty folder", fsys.Remove("a"))

			total, free, err := fsys.Space()
			if err != nil || total <= 0 || free <= 0 || free > total {
				t.Errorf("%d of %d bytes are free, %v", free, total, err)
			}
			lock, err := fsys.Lock("lock")
			none("lock", err)
			_, err = fsys.Lock("lock")
			want("lock again", err, disk.ErrInUse)
			none("unlock", lock.Close())
			lock, err = fsys.Lock("lock")
			none("lock after that", err)
			none("unlock", lock.Close())
		})
	}
}

// TestALockEndsWithItsHolder: also while a process is being started, which has our files until
// it runs.
func TestALockEndsWithItsHolder(t *testing.T) {
	t.Parallel()
	folder, err := disk.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	lock, err := folder.Lock("lock")
	if err != nil {
		t.Fatal(err)
	}
	held, ok := lock.(interface{ Fd() uintptr })
	if !ok {
		t.Fatalf("the lock is a %T, and no file", lock)
	}
	theirs, err := unix.Dup(int(held.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(theirs) }()
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = folder.Lock("lock"); err != nil {
		t.Fatalf("lock after it was closed: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}

// TestNothingOutside: no name and no link leads out of a folder.
func TestNothingOutside(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	inside := filepath.Join(top, "inside")
	if err := errors.Join(os.Mkdir(inside, 0o700), os.WriteFile(filepath.Join(top, "secret"), nil, 0o600), os.Symlink("../secret", filepath.Join(inside, "link"))); err != nil {
		t.Fatal(err)
	}
	folder, err := disk.OpenFolder(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	for _, name := range []string{"link", "../secret", filepath.Join(top, "secret")} {
		if _, err := folder.Open(name); err == nil {
			t.Errorf("%s was opened", name)
		}
		if _, err := folder.Edit(name); err == nil {
			t.Errorf("%s was opened to be written", name)
		}
	}
	if err := folder.Rename("link", "../moved"); err == nil {
		t.Error("something was moved out")
	}
}

// TestReplaceIsOneStep: after a process that was killed, or a power cut, at any step there
// is the old content or the new one; after Swap that holds for kill -9 only.
func TestReplaceIsOneStep(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(disk.FS, string, []byte) error{"Replace": disk.Replace, "Swap": disk.Swap} {
		for _, effect := range []disktest.Effect{disktest.Nothing, disktest.Half, disktest.Done} {
			for at := 1; ; at++ {
				d := disktest.New()
				d.Put("f", 0o600, []byte("old"))
				p := d.Process(disktest.Kill(at, effect))
				err := replace(p, "f", []byte("new content"))
				seen := []*disktest.Disk{d}
				for seed := range uint64(20) {
					if name == "Replace" {
						cut := d.Clone()
						cut.PowerCut(seed)
						seen = append(seen, cut)
					}
				}
				for _, d := range seen {
					got := string(d.Files()["f"])
					if got != "new content" && (got != "old" || err == nil) {
						t.Errorf("%s, killed at %v: %v, and %q is there", name, p.Steps(), err, got)
					}
					if err := replace(d.Process(nil), "f", []byte("again")); err != nil {
						t.Errorf("%s, killed at %v: %v", name, p.Steps(), err)
					}
					if got := d.Files(); len(got) != 1 || string(got["f"]) != "again" {
						t.Errorf("%s, killed at %v, and again: %q", name, p.Steps(), got)
					}
				}
				if !p.Dead() {
					break
				}
			}
		}
	}
}

// TestReplaceFails: an error before the rename leaves the old content, and no other file.
func TestReplaceFails(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 4; at++ {
		d := disktest.New()
		d.Put("f", 0o600, []byte("old"))
		err := disk.Replace(d.Process(func(s disktest.Step) disktest.Fault {
			if s.N != at+1 { // the first one removes what is not there
				return disktest.Fault{}
			}
			return disktest.Fault{Err: syscall.ENOSPC, Effect: disktest.Half}
		}), "f", []byte("new"))
		if got := d.Files(); !errors.Is(err, syscall.ENOSPC) || len(got) != 1 || !bytes.Equal(got["f"], []byte("old")) {
			t.Errorf("at %d: %v, %q", at, err, got)
		}
	}
}

func TestReadFileIsBounded(t *testing.T) {
	t.Parallel()
	d := disktest.New()
	d.Put("f", 0o600, make([]byte, 100))
	for most, ok := range map[int64]bool{99: false, 100: true} {
		if data, err := disk.ReadFile(d.Process(nil), "f", most); (err == nil) != ok || ok && len(data) != 100 {
			t.Errorf("%d bytes at most: %d, %v", most, len(data), err)
		}
	}
}

func TestBootID(t *testing.T) {
	t.Parallel()
	a, err := disk.BootID()
	b, again := disk.BootID()
	if err != nil || again != nil || a != b || len(a) != 36 {
		t.Errorf("%q, then %q: %v", a, b, fmt.Sprint(err, again))
	}
}
