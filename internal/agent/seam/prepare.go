package seam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Prepare makes the folder what the halves need when serve is not root: the
// folder is root's, so that serve cannot put anything in the place of what node
// goes by; in it one folder is serve's. user is serve's number, and its group's.
// Root does it before either half starts; the second time it changes nothing.
func Prepare(dir string, user int) error {
	f := Folder{dir: dir}
	if err := os.MkdirAll(f.serves(""), 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	// serve may go through it, and not look into it.
	if err := give(dir, os.Geteuid(), user, 0o710); err != nil {
		return err
	}
	files, err := os.ReadDir(f.serves(""))
	if err != nil {
		return fmt.Errorf("look into the folder of the serving half: %w", err)
	}
	for _, file := range files {
		if err := giveFile(f.serves(file.Name()), user, user, 0o600); err != nil {
			return err
		}
	}
	if err := give(f.serves(""), user, user, 0o700); err != nil {
		return err
	}
	return giveFile(f.nodes(fileMirrors), os.Geteuid(), user, 0o640)
}

// giveFile gives an ordinary file away. Any other was not made by us: a second
// name of a file, for one, may be a name of somebody else's.
func giveFile(path string, user, group int, mode os.FileMode) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at agent state: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.Mode().IsRegular() || stat.Nlink != 1 {
		return nil
	}
	return give(path, user, group, mode)
}

func give(path string, user, group int, mode os.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at agent state: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != user || int(stat.Gid) != group {
		if err := os.Lchown(path, user, group); err != nil {
			return fmt.Errorf("give %s to user %d: %w", path, user, err)
		}
	}
	if info.Mode().Perm() == mode {
		return nil
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("close %s to others: %w", path, err)
	}
	return nil
}
