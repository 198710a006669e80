package handoff

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Clear removes every file of both halves, and of scripts. The lock stays, and so
// do serve's token and certificate: serve still runs, and if the module stays
// after all, the next agent must be able to talk to it.
func (f StateDir) Clear() error {
	return f.clear(map[string]bool{fileLock: true}, map[string]bool{fileToken: true, fileCA: true, fileCAKey: true})
}

// clear removes all files of node and of serve but the given ones. Both
// directories stay.
func (f StateDir) clear(nodes, serves map[string]bool) error {
	return errors.Join(
		removeContents(f.dir, func(name string) bool { return name == dirServe || nodes[name] }),
		removeContents(f.servePath(""), func(name string) bool { return serves[name] }))
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

// Remove removes everything and the directory itself. outside is its path outside
// of the container: inside it is a mount, which cannot be removed.
func (f StateDir) Remove(outside string) error {
	if err := f.clear(nil, nil); err != nil {
		return err
	}
	inside, err := os.Stat(f.dir)
	if err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	if same, err := os.Stat(outside); err != nil || !os.SameFile(inside, same) {
		return fmt.Errorf("remove state folder: %s is not the same as %s", outside, f.dir)
	}
	for _, dir := range []string{filepath.Join(outside, dirServe), outside} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove state folder: %w", err)
		}
	}
	return nil
}
