package durable

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// File is a file as it should be.
type File struct {
	Name string
	// Temp is the name that the file has until it is complete; Name with Suffix
	// when empty. It must be in the same directory, and a name that nobody reads.
	Temp       string
	Data       []byte
	Attributes Attributes
	// Confirm is called last of all, when only the rename is missing. If it fails,
	// the old file stays, and Replace returns that error. It may be nil.
	Confirm func() error
}

// Suffix ends the name of a temporary file. containerd reads no file that ends
// like this.
const Suffix = ".new"

// Replace puts a file in the place of the one that is there, if any, in one
// step. It returns when that is on disk. On any error the old file is untouched,
// unless the error is that of flushing the directory.
func Replace(fsys FS, f File) error {
	if err := Swap(fsys, f); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(f.Name))
}

// Swap is Replace without flushing the directory: after a power cut the old file
// may be back. It is for several files of one directory that are flushed
// together.
func Swap(fsys FS, f File) error {
	if f.Temp == "" {
		f.Temp = f.Name + Suffix
	}
	err := fsys.WriteFile(f.Temp, f.Data, f.Attributes)
	if err == nil && f.Confirm != nil {
		err = f.Confirm()
	}
	if err == nil {
		err = fsys.Rename(f.Temp, f.Name)
	}
	if err != nil {
		_ = fsys.Remove(f.Temp) // it may hold secrets; the next Replace removes it in any case
	}
	return err
}

// Remove removes a file and returns when that is on disk. It is fine if there is
// no such file.
func Remove(fsys FS, name string) error {
	if _, err := fsys.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}
