package handoff

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Clear removes every file of node and of scripts, but the lock. What is serve's only
// serve takes away while it is at work, see Forget: it may just be writing, and what it
// serves is on disk. Its token and certificate stay in any case: if the module stays
// after all, the next agent must be able to talk to it.
func (f StateDir) Clear() error {
	return removeContents(f.dir, func(name string) bool { return name == dirServe || name == fileLock })
}

// removeContents removes what is in a directory. It follows no link.
func removeContents(folder string, stays func(name string) bool) error {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear state folder: %w", err)
	}
	for _, e := range entries {
		if stays(e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
			return fmt.Errorf("clear state folder: %w", err)
		}
	}
	return nil
}
