package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// Suffix ends the name of a file that is to replace another.
const Suffix = ".new"

// Replace puts a small file in the place of the one that is there, if any: after kill -9 and
// after a power cut there is the old one or the new one, on return the new one.
func Replace(fsys FS, name string, data []byte) error {
	return replace(fsys, name, data, File.Sync, fsys.SyncDir)
}

// Swap is Replace for what may be lost, or be rubbish, after a power cut: nothing waits for
// the disk.
func Swap(fsys FS, name string, data []byte) error {
	return replace(fsys, name, data, func(File) error { return nil }, func(string) error { return nil })
}

func replace(fsys FS, name string, data []byte, sync func(File) error, syncDir func(string) error) error {
	temp := name + Suffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.Rename(temp, name)
	}
	if err != nil {
		_ = fsys.Remove(temp) // it takes space; the next one removes it in any case
		return err
	}
	return syncDir(path.Dir(name))
}

// ReadFile reads a file of at most that many bytes.
func ReadFile(fsys FS, name string, most int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, size, most)
	}
	return io.ReadAll(io.NewSectionReader(f, 0, size))
}
