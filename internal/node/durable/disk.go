package durable

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is the machine's file system.
type Disk struct{}

// ReadFile implements FS.
func (Disk) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

// ReadDir implements FS.
func (Disk) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Lstat implements FS.
func (Disk) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(name) }

// Readlink implements FS.
func (Disk) Readlink(name string) (string, error) { return os.Readlink(name) }

// Writable implements FS.
func (Disk) Writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// Mkdir implements FS.
func (Disk) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// WriteFile implements FS.
func (d Disk) WriteFile(name string, data []byte, a Attributes) error {
	return write(d, name, data, a)
}

// Rename implements FS.
func (Disk) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (Disk) Remove(name string) error { return os.Remove(name) }

// SyncDir implements FS.
func (Disk) SyncDir(name string) error { return syncDir(os.Open(name)) }

func (Disk) create(name string) (*os.File, error) { return os.OpenFile(name, createFlags, 0o600) }

func (Disk) setModified(name string, at time.Time) error { return os.Chtimes(name, at, at) }
