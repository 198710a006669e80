package handoff

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Prepare sets owners and modes for a serve that is not root. The state directory
// belongs to root, so that serve cannot replace the files of node; one directory
// in it belongs to serve. user is the number of serve's user and group. Root calls
// it before the halves start. Calling it again changes nothing.
func Prepare(dir string, user int) error {
	f := Existing(dir)
	if err := os.MkdirAll(f.servePath(""), 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	// serve may go through it, and not look into it.
	if err := giveDir(dir, os.Geteuid(), user, 0o710); err != nil {
		return err
	}
	files, err := os.ReadDir(f.servePath(""))
	if err != nil {
		return fmt.Errorf("look into the folder of the serving half: %w", err)
	}
	for _, file := range files {
		if err := giveFile(f.servePath(file.Name()), user, user, 0o600); err != nil {
			return err
		}
	}
	if err := giveDir(f.servePath(""), user, user, 0o700); err != nil {
		return err
	}
	return giveFile(f.nodePath(fileMirrors), os.Geteuid(), user, 0o640)
}

// giveFile changes the owner of an ordinary file. Anything else was not made by
// us: a file with a second name may be somebody else's. It checks and changes the
// same open file, because the serve of a Pod that was deleted by force may still
// be changing the directory.
func giveFile(path string, user, group int, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENXIO):
		return nil // not there, a link, or a socket
	case err != nil:
		return fmt.Errorf("look at agent state: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("look at agent state: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.Mode().IsRegular() || stat.Nlink != 1 {
		return nil
	}
	return give(file, info, user, group, mode)
}

// giveDir changes the owner of a directory that is in one of root's.
func giveDir(path string, user, group int, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("look at agent state: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("look at agent state: %w", err)
	}
	return give(file, info, user, group, mode)
}

func give(file *os.File, info fs.FileInfo, user, group int, mode os.FileMode) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != user || int(stat.Gid) != group {
		if err := file.Chown(user, group); err != nil {
			return fmt.Errorf("give %s to user %d: %w", file.Name(), user, err)
		}
	}
	if info.Mode().Perm() == mode {
		return nil
	}
	if err := file.Chmod(mode); err != nil {
		return fmt.Errorf("close %s to others: %w", file.Name(), err)
	}
	return nil
}
