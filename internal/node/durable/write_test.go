package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// watched looks at a new file at two moments of write: when it is made, and when
// all but the flush to disk is done.
type watched struct {
	creator
	made func(file *os.File) *os.File // what is written to
	done func(file *os.File)

	file *os.File
}

func (w *watched) create(name string) (file *os.File, err error) {
	if file, err = w.creator.create(name); err == nil {
		w.file = w.made(file)
	}
	return w.file, err
}

func (w *watched) setModified(name string, at time.Time) error {
	err := w.creator.setModified(name, at)
	w.done(w.file)
	return err
}

// writing writes "content" with mode 0640, once to a Disk and once to a Dir.
func writing(t *testing.T, w watched, ended func(path string, err error)) {
	t.Helper()
	for _, kind := range []string{"Disk", "Dir"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		name := path
		w.creator = Disk{}
		if kind == "Dir" {
			d, err := OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			name, w.creator = "file", d
		}
		a := Attributes{Mode: new(fs.FileMode(0o640)), Owner: &Owner{UID: -1, GID: os.Getegid()}, Modified: time.Unix(1_700_000_000, 0)}
		ended(path, write(&w, name, []byte("content"), a))
	}
}

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// TestClosedFromTheFirstByte: a file may hold credentials. Nobody but its owner may
// read it before it is complete.
func TestClosedFromTheFirstByte(t *testing.T) {
	t.Parallel()
	w := watched{made: func(file *os.File) *os.File {
		if mode := modeOf(t, file.Name()); mode != 0o600 {
			t.Errorf("it is made with %s", mode)
		}
		_ = file.Close()
		readOnly, err := os.Open(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		return readOnly // so that the write fails
	}}
	writing(t, w, func(path string, err error) {
		if mode := modeOf(t, path); err == nil || mode != 0o600 {
			t.Errorf("without its content it has %s, %v", mode, err)
		}
	})
}

// TestFlushedLast: content and attributes are on disk, not only the content.
func TestFlushedLast(t *testing.T) {
	t.Parallel()
	w := watched{
		made: func(file *os.File) *os.File { return file },
		done: func(file *os.File) {
			data, err := os.ReadFile(file.Name())
			if mode := modeOf(t, file.Name()); err != nil || string(data) != "content" || mode != 0o640 {
				t.Errorf("before the flush it has %q, %s, %v", data, mode, err)
			}
			_ = file.Close() // so that the flush fails
		},
	}
	writing(t, w, func(path string, err error) {
		if failed, ok := errors.AsType[*fs.PathError](err); !ok || failed.Op != "sync" {
			t.Errorf("it was not flushed: %v", err)
		}
		if info, err := os.Stat(path); err != nil || info.ModTime().Unix() != 1_700_000_000 {
			t.Errorf("%v, %v", info, err)
		}
	})
}
