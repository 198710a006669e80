package reconfigure

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/d8-registry/registry/internal/node/durable"
)

// resolveLinks is where a file really is, as containerd sees it. root is
// containerd's root: the kernel would follow an absolute link from ours.
func resolveLinks(fsys durable.FS, root, path string) (string, error) {
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

// explainWriteError says in a sentence why a file cannot be written.
func explainWriteError(path string, err error) string {
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
