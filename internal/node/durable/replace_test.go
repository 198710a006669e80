package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
)

// both are the two file systems on one directory; name is how each calls a file.
func both(t *testing.T) map[string]func(dir string) (fsys durable.FS, name func(string) string) {
	return map[string]func(string) (durable.FS, func(string) string){
		"Disk": func(dir string) (durable.FS, func(string) string) {
			return durable.Disk{}, func(name string) string { return filepath.Join(dir, name) }
		},
		"Dir": func(dir string) (durable.FS, func(string) string) {
			d, err := durable.OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			return d, func(name string) string { return name }
		},
	}
}

// TestReplaceIsOneStep kills the process at each operation: a reader finds the
// old content or the new one, with its own mode, and a later Replace ends the
// work.
func TestReplaceIsOneStep(t *testing.T) {
	t.Parallel()
	for kind, open := range both(t) {
		for _, kill := range durabletest.Kills() {
			for at := 1; ; at++ {
				dir := t.TempDir()
				path := filepath.Join(dir, "file")
				if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
					t.Fatal(err)
				}
				fsys, name := open(dir)
				next := durable.File{Name: name("file"), Data: []byte("new content"), Attributes: durable.Attributes{Mode: new(fs.FileMode(0o640))}}
				p := durabletest.NewProcess(at, kill)
				err := durable.Replace(p.FS(fsys), next)
				where := fmt.Sprintf("%s, killed at %d, %s: %v", kind, at, kill, p.Steps())
				is(t, where, path, "old", 0o644, "new content", 0o640)
				if err := durable.Replace(fsys, next); err != nil {
					t.Fatalf("%s: %v", where, err)
				}
				is(t, where+", and again", path, "new content", 0o640, "new content", 0o640)
				if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
					t.Errorf("%s: %v is left, %v", where, left, err)
				}
				if !p.Dead() {
					if err != nil || at < 4 {
						t.Errorf("%s: %v", where, err)
					}
					break
				}
			}
		}
	}
}

// is fails unless a file has one of two contents, each with its mode.
func is(t *testing.T, where, path, a string, modeA fs.FileMode, b string, modeB fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	old, next := string(data) == a && info.Mode() == modeA, string(data) == b && info.Mode() == modeB
	if !old && !next {
		t.Errorf("%s: %q with %s", where, data, info.Mode())
	}
}

// TestFailuresLeaveTheOldFile: an error at any step before the rename leaves the
// old file, and no temporary one.
func TestFailuresLeaveTheOldFile(t *testing.T) {
	t.Parallel()
	refused := errors.New("it changed meanwhile")
	for name, row := range map[string]struct {
		fault   func(c durabletest.Change) durabletest.Fault
		confirm func() error
		want    error
	}{
		"a full disk": {fault: func(c durabletest.Change) durabletest.Fault {
			if c.Op == durabletest.Write {
				return durabletest.Fault{Err: syscall.ENOSPC, Effect: durabletest.Torn}
			}
			return durabletest.Fault{}
		}, want: syscall.ENOSPC},
		"a mount": {fault: func(c durabletest.Change) durabletest.Fault {
			if c.Op == durabletest.Rename {
				return durabletest.Fault{Err: syscall.EBUSY}
			}
			return durabletest.Fault{}
		}, want: syscall.EBUSY},
		"somebody wrote it": {confirm: func() error { return refused }, want: refused},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		fsys := &durabletest.FS{FS: durable.Disk{}, Before: row.fault}
		err := durable.Replace(fsys, durable.File{Name: path, Data: []byte("new"), Confirm: row.confirm})
		data, readErr := os.ReadFile(path)
		left, dirErr := os.ReadDir(dir)
		if !errors.Is(err, row.want) || string(data) != "old" || len(left) != 1 || readErr != nil || dirErr != nil {
			t.Errorf("%s: %v; %q; %v is there", name, err, data, left)
		}
	}
}

// TestAttributes: a file gets what it is told, whatever was there before it.
func TestAttributes(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 123_456_789)
	for kind, open := range both(t) {
		dir := t.TempDir()
		outside := filepath.Join(t.TempDir(), "outside")
		fsys, name := open(dir)
		if err := os.WriteFile(outside, []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(dir, "file")); err != nil {
			t.Fatal(err)
		}
		want := durable.Attributes{Mode: new(fs.FileMode(0o664)), Owner: &durable.Owner{UID: -1, GID: os.Getegid()}, Modified: at}
		if err := fsys.WriteFile(name("file"), []byte("ours"), want); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(outside); err != nil || string(data) != "theirs" {
			t.Errorf("%s: a link was followed: %q, %v", kind, data, err)
		}
		info, err := fsys.Lstat(name("file"))
		if err != nil || info.Mode() != 0o664 || !info.ModTime().Equal(at) {
			t.Errorf("%s: %v, %v", kind, info, err)
		}
		got, err := durable.AttributesOf(filepath.Join(dir, "file"))
		if err != nil || *got.Mode != 0o664 || *got.Owner != (durable.Owner{UID: os.Geteuid(), GID: os.Getegid()}) {
			t.Errorf("%s: %+v, %v", kind, got, err)
		}
		if err := os.Chmod(filepath.Join(dir, "file"), 0); err != nil {
			t.Fatal(err)
		}
		if got, err = durable.AttributesOf(filepath.Join(dir, "file")); err != nil {
			t.Fatal(err)
		}
		if err := fsys.WriteFile(name("closed"), nil, got); err != nil {
			t.Fatal(err)
		}
		if info, err := fsys.Lstat(name("closed")); err != nil || info.Mode() != 0 {
			t.Errorf("%s: of a file that nobody may read: %v, %v", kind, info, err)
		}
		if err := fsys.WriteFile(name("plain"), nil, durable.Attributes{}); err != nil {
			t.Fatal(err)
		}
		if info, err := fsys.Lstat(name("plain")); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", kind, info, err)
		}
	}
}

// TestWhatIsSaidOfAFailedWrite: people read it in the status of a node. It says
// that the new file cannot be made, not that a leftover cannot be removed.
func TestWhatIsSaidOfAFailedWrite(t *testing.T) {
	t.Parallel()
	for kind, open := range both(t) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		fsys, name := open(dir)
		err := fsys.WriteFile(name("file/new"), nil, durable.Attributes{})
		if failed, ok := errors.AsType[*fs.PathError](err); !ok || failed.Op != "open" && failed.Op != "openat" || !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	from, to := filepath.Join(t.TempDir(), "config.toml"), filepath.Join(t.TempDir(), "new")
	if err := os.WriteFile(from, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := durable.AttributesOf(from)
	if err != nil {
		t.Fatal(err)
	}
	a.Extended["user."+strings.Repeat("x", 300)] = nil // longer than Linux allows
	err = durable.Disk{}.WriteFile(to, nil, a)
	if err == nil || !strings.HasPrefix(err.Error(), "copy extended attribute user.xxx") || !strings.HasSuffix(err.Error(), " of "+from+": numerical result out of range") {
		t.Error(err)
	}
}

// TestAttributesOpenNothing: a pipe in the place of a file would keep whoever
// opens it waiting.
func TestAttributesOpenNothing(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o640); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		a, err := durable.AttributesOf(pipe)
		if err == nil && *a.Mode != 0o640 {
			err = fmt.Errorf("mode %s", *a.Mode)
		}
		got <- err
	}()
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for somebody to write to a pipe")
	}
}

// TestDirKeepsInside: no name leads out of a Dir.
func TestDirKeepsInside(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	d, err := durable.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	for _, name := range []string{"../x", "link/x"} {
		if err := d.WriteFile(name, nil, durable.Attributes{}); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if _, err := durable.OpenDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fsys := &durabletest.FS{FS: durable.Disk{}}
	for range 2 { // the second time there is none
		if err := durable.Remove(fsys, path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || len(fsys.Changes) != 2 {
		t.Errorf("%v after %v", err, fsys.Changes)
	}
}
