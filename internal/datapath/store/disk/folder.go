package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Folder is a folder of the machine. Nothing outside of it can be reached through it, not
// even by symbolic links.
type Folder struct {
	root   *os.Root
	steady *steady // nil: the system writes when it likes
}

// OpenFolder opens a folder that is there.
func OpenFolder(path string) (*Folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Folder{root: root}, nil
}

// IsAt is an error if a path does not lead to the folder any more: to nothing, or to another one. ErrDeleted
// is that it leads there and the folder is gone all the same, as in a container that has it from outside.
func (d *Folder) IsAt(path string) error {
	mine, err := d.root.Stat(".")
	if err != nil {
		return err
	}
	there, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return fmt.Errorf("%s is another folder by now", path)
	}
	if s, ok := there.Sys().(*syscall.Stat_t); ok && s.Nlink == 0 {
		return ErrDeleted
	}
	return nil
}

// Close lets go of the folder.
func (d *Folder) Close() error { return d.root.Close() }

// ReadDir implements FS.
func (d *Folder) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.ReadDir(-1)
}

// Open implements FS.
func (d *Folder) Open(name string) (File, error) { return d.open(name, os.O_RDONLY) }

// Edit implements FS.
func (d *Folder) Edit(name string) (File, error) { return d.open(name, os.O_RDWR) }

// Create implements FS.
func (d *Folder) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (d *Folder) open(name string, flag int) (File, error) {
	f, err := d.root.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return file{f, d.steady, new(atomic.Int64)}, nil
}

// Mkdir implements FS.
func (d *Folder) Mkdir(name string) error {
	err := d.root.Mkdir(name, 0o750)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := d.root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: name, Err: unix.ENOTDIR}
	}
	return err
}

// Rename implements FS.
func (d *Folder) Rename(from, to string) error { return d.root.Rename(from, to) }

// Remove implements FS.
func (d *Folder) Remove(name string) error { return d.root.Remove(name) }

// SyncDir implements FS.
func (d *Folder) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Lock implements FS.
func (d *Folder) Lock(name string) (io.Closer, error) {
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = control(f, "lock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrInUse
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return locked{f}, nil
}

// locked is a file with the lock. A process that is being started has every file of ours for
// a moment, and a lock lives as long as any of them: so it is given up, not only closed.
type locked struct{ *os.File }

func (l locked) Close() error {
	return errors.Join(control(l.File, "unlock", func(fd int) error { return unix.Flock(fd, unix.LOCK_UN) }), l.File.Close())
}

// Space implements FS.
func (d *Folder) Space() (total, free int64, err error) {
	f, err := d.root.Open(".")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	var s unix.Statfs_t
	if err := control(f, "statfs", func(fd int) error { return unix.Fstatfs(fd, &s) }); err != nil {
		return 0, 0, err
	}
	return int64(s.Blocks) * s.Bsize, int64(s.Bavail) * s.Bsize, nil
}

// file is one of the machine.
type file struct {
	*os.File
	steady *steady
	fresh  *atomic.Int64 // bytes since the disk had all, of a steady one
}

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Sync leaves out what is not needed to find the bytes again, such as when they were written.
func (f file) Sync() error { return control(f.File, "fdatasync", unix.Fdatasync) }

func (f file) Seal() error { return f.Chmod(0o444) }

func (f file) WriteBack() {
	_ = control(f.File, "write back", func(fd int) error { // it is no promise
		return unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	})
}

// control calls the system with the number of a file that is not closed meanwhile.
func control(f *os.File, op string, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for failed = unix.EINTR; errors.Is(failed, unix.EINTR); {
			failed = call(int(fd))
		}
	})
	if err == nil && failed != nil {
		err = &fs.PathError{Op: op, Path: f.Name(), Err: failed}
	}
	return err
}

// BootID names the run of the machine's kernel.
func BootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading which run of the kernel this is: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
