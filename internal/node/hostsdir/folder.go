package hostsdir

import (
	"fmt"
	"io/fs"
	"os"
	"time"
)

// FS is the handful of file operations that Apply needs, on names relative to
// containerd's host directory. Tests let the n-th one fail.
type FS interface {
	ReadFile(name string) ([]byte, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Lstat(name string) (fs.FileInfo, error)
	Mkdir(name string, perm fs.FileMode) error
	// WriteFile creates or replaces a file and returns when it is on disk.
	WriteFile(name string, data []byte, perm fs.FileMode) error
	Rename(from, to string) error
	Remove(name string) error
	// Sync returns when the directory's own entries are on disk.
	Sync(name string) error
}

// Folder is a directory of the machine as FS. Nothing outside of it can be
// reached, not even through symbolic links.
type Folder struct{ root *os.Root }

// OpenFolder opens a directory, making it and its parents if need be.
func OpenFolder(path string) (*Folder, error) {
	if err := os.MkdirAll(path, 0o755); err != nil { //nolint:gosec // containerd's own directories are as open as this
		return nil, fmt.Errorf("make host directory: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open host directory: %w", err)
	}
	return &Folder{root: root}, nil
}

// ExistingFolder opens a directory, and fails with fs.ErrNotExist if there is
// none.
func ExistingFolder(path string) (*Folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open host directory: %w", err)
	}
	return &Folder{root: root}, nil
}

// Chown gives a file to a user and a group.
func (f *Folder) Chown(name string, uid, gid int) error { return f.root.Lchown(name, uid, gid) }

// Chtimes sets when a file was last changed.
func (f *Folder) Chtimes(name string, modified time.Time) error {
	return f.root.Chtimes(name, modified, modified)
}

// Close releases the directory.
func (f *Folder) Close() error { return f.root.Close() }

// ReadFile implements FS.
func (f *Folder) ReadFile(name string) ([]byte, error) { return f.root.ReadFile(name) }

// ReadDir implements FS.
func (f *Folder) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(f.root.FS(), name) }

// Lstat implements FS.
func (f *Folder) Lstat(name string) (fs.FileInfo, error) { return f.root.Lstat(name) }

// Mkdir implements FS.
func (f *Folder) Mkdir(name string, perm fs.FileMode) error { return f.root.Mkdir(name, perm) }

// WriteFile implements FS.
func (f *Folder) WriteFile(name string, data []byte, perm fs.FileMode) error {
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Chmod(perm) // the file may be a leftover with another mode
	}
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

// Rename implements FS.
func (f *Folder) Rename(from, to string) error { return f.root.Rename(from, to) }

// Remove implements FS.
func (f *Folder) Remove(name string) error { return f.root.Remove(name) }

// Sync implements FS.
func (f *Folder) Sync(name string) error {
	dir, err := f.root.Open(name)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if cerr := dir.Close(); err == nil {
		err = cerr
	}
	return err
}
