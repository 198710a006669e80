package durable

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// createFlags make a new file, and never open one that is there.
const createFlags = os.O_WRONLY | os.O_CREATE | os.O_EXCL | syscall.O_NOFOLLOW

// largestExtended is the most that Linux allows for one extended attribute, and
// for the list of their names.
const largestExtended = 64 << 10

// creator is what Disk and Dir do each in their own way.
type creator interface {
	Remove(name string) error
	create(name string) (*os.File, error)
	setModified(name string, at time.Time) error
}

// write is WriteFile of both file systems. Before it is complete the file is for
// its owner only.
func write(c creator, name string, data []byte, a Attributes) error {
	// A leftover of a crash may be anything, such as a link to somewhere else. If it
	// cannot be removed, create says why.
	_ = c.Remove(name)
	file, err := c.create(name)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = a.apply(file)
	}
	if err == nil && !a.Modified.IsZero() {
		err = c.setModified(name, a.Modified)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// apply gives a file all attributes but the time.
func (a Attributes) apply(file *os.File) error {
	if a.Owner != nil {
		if err := file.Chown(a.Owner.UID, a.Owner.GID); err != nil {
			return err
		}
	}
	if err := file.Chmod(a.mode()); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(a.Extended)) {
		err := unix.Fsetxattr(int(file.Fd()), name, a.Extended[name], 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("copy extended attribute %s of %s: %w", name, a.from, err)
		}
	}
	return nil
}

// syncDir flushes a directory that was opened for that.
func syncDir(dir *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// AttributesOf are those of a file of the machine without its time, for a new file
// that takes its place. The file is not opened: it may be a pipe by now.
func AttributesOf(path string) (Attributes, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Attributes{}, err
	}
	a := Attributes{from: path, Mode: new(info.Mode().Perm()), Extended: map[string][]byte{}}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		a.Owner = &Owner{UID: int(stat.Uid), GID: int(stat.Gid)}
	}
	names := make([]byte, largestExtended)
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) {
		return a, nil
	}
	if err != nil {
		return Attributes{}, fmt.Errorf("list extended attributes of %s: %w", path, err)
	}
	for _, name := range strings.FieldsFunc(string(names[:n]), func(r rune) bool { return r == 0 }) {
		value := make([]byte, largestExtended)
		n, err := unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return Attributes{}, fmt.Errorf("copy extended attribute %s of %s: %w", name, path, err)
		}
		a.Extended[name] = value[:n]
	}
	return a, nil
}
