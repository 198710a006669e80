package durable

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Dir is one directory of the machine. Nothing outside of it can be reached
// through it, not even by symbolic links.
type Dir struct{ root *os.Root }

// OpenDir opens a directory. It fails with fs.ErrNotExist if there is none.
func OpenDir(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Dir{root: root}, nil
}

// Root is the same directory, for operations that FS does not have.
func (d *Dir) Root() *os.Root { return d.root }

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

// ReadFile implements FS.
func (d *Dir) ReadFile(name string) ([]byte, error) { return d.root.ReadFile(name) }

// ReadDir implements FS.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(d.root.FS(), name) }

// Lstat implements FS.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

// Readlink implements FS.
func (d *Dir) Readlink(name string) (string, error) { return d.root.Readlink(name) }

// Writable implements FS.
func (d *Dir) Writable(dir string) error { return Disk{}.Writable(filepath.Join(d.root.Name(), dir)) }

// Mkdir implements FS.
func (d *Dir) Mkdir(name string, perm fs.FileMode) error { return d.root.Mkdir(name, perm) }

// WriteFile implements FS.
func (d *Dir) WriteFile(name string, data []byte, a Attributes) error {
	return write(d, name, data, a)
}

// Rename implements FS.
func (d *Dir) Rename(from, to string) error { return d.root.Rename(from, to) }

// Remove implements FS.
func (d *Dir) Remove(name string) error { return d.root.Remove(name) }

// SyncDir implements FS.
func (d *Dir) SyncDir(name string) error { return syncDir(d.root.Open(name)) }

func (d *Dir) create(name string) (*os.File, error) {
	return d.root.OpenFile(name, createFlags, 0o600)
}

func (d *Dir) setModified(name string, at time.Time) error { return d.root.Chtimes(name, at, at) }
