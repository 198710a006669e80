package reconfigure

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// FS are the file operations of a change. Tests let the n-th one fail, or be
// the last one of a process.
type FS interface {
	ReadFile(name string) ([]byte, error)
	Lstat(name string) (fs.FileInfo, error)
	Readlink(name string) (string, error)
	// Write creates or replaces a file and returns when it is on disk. It has
	// the mode, owner and extended attributes of like, or 0600 without one.
	Write(name string, data []byte, like string) error
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir returns when a directory's own entries are on disk.
	SyncDir(name string) error
	// Writable asks whether a directory takes new entries, touching nothing.
	Writable(dir string) error
}

// Disk is the machine's file system.
type Disk struct{}

// ReadFile implements FS.
func (Disk) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

// Lstat implements FS.
func (Disk) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(name) }

// Readlink implements FS.
func (Disk) Readlink(name string) (string, error) { return os.Readlink(name) }

// Rename implements FS.
func (Disk) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (Disk) Remove(name string) error { return os.Remove(name) }

// Writable implements FS.
func (Disk) Writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// SyncDir implements FS.
func (Disk) SyncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	err = dir.Sync()
	return errors.Join(err, dir.Close())
}

// Write implements FS.
func (Disk) Write(name string, data []byte, like string) error {
	// A leftover may be anything, a link to elsewhere included.
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil && like != "" {
		err = dress(file, like)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// dress gives a file the owner, mode and extended attributes of another one.
func dress(file *os.File, like string) error {
	info, err := os.Lstat(like)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := file.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	if err := file.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	// Without its SELinux label containerd may not be allowed to read it.
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(like, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes of %s: %w", like, err)
	}
	for _, name := range split(names[:n]) {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(like, name, value)
		if err == nil {
			err = unix.Fsetxattr(int(file.Fd()), name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("copy extended attribute %s of %s: %w", name, like, err)
		}
	}
	return nil
}

func split(list []byte) []string {
	var out []string
	for len(list) > 0 {
		i := 0
		for i < len(list) && list[i] != 0 {
			i++
		}
		out = append(out, string(list[:i]))
		list = list[min(i+1, len(list)):]
	}
	return out
}

// follow is where the main file really is, below root, as containerd sees it.
// The kernel would follow an absolute link from our own root.
func follow(fsys FS, root, path string) (string, error) {
	at := path
	for range 40 {
		to, err := fsys.Readlink(filepath.Join(root, at))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EINVAL) {
			return at, nil // not there yet, or no link
		}
		if err != nil {
			return "", fmt.Errorf("look at %s: %w", at, err)
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(at), to)
		}
		at = filepath.Clean(to)
	}
	return "", &Refusal{fmt.Sprintf("%s is a symbolic link that leads in a circle", path)}
}

// plainly says in words why a file cannot be written, where that is known.
func plainly(path string, err error) string {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("%s is on a read-only file system", path)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Sprintf("%s is a mount of its own and cannot be replaced", path)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Sprintf("%s may not be written by this agent: %v (look at lsattr and the security module's log)", path, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Sprintf("no space is left for %s", path)
	default:
		return fmt.Sprintf("%s cannot be written: %v", path, err)
	}
}
