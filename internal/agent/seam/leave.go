package seam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/d8-registry/registry/internal/pki"
)

// Clear removes every file of both halves, and of scripts. The folder of each
// half stays: an agent that is to stay after all writes there again.
func (f Folder) Clear() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear state folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == folderServe {
			continue
		}
		if err := os.RemoveAll(f.nodes(e.Name())); err != nil {
			return fmt.Errorf("clear state folder: %w", err)
		}
	}
	if entries, err = os.ReadDir(f.serves("")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear state folder: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(f.serves(e.Name())); err != nil {
			return fmt.Errorf("clear state folder: %w", err)
		}
	}
	return nil
}

// Vanish removes the folder itself, cleared, by its name outside of the
// container: inside it is a mount and cannot be removed.
func (f Folder) Vanish(outside string) error {
	if err := f.Clear(); err != nil {
		return err
	}
	inside, err := os.Stat(f.dir)
	if err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	if same, err := os.Stat(outside); err != nil || !os.SameFile(inside, same) {
		return fmt.Errorf("remove state folder: %s is not the same as %s", outside, f.dir)
	}
	for _, dir := range []string{filepath.Join(outside, folderServe), outside} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove state folder: %w", err)
		}
	}
	return nil
}

// Keep writes the node token and the CA again if they were cleared.
func (f Folder) Keep(token string, ca pki.KeyPair) error {
	if _, err := f.Token(); errors.Is(err, fs.ErrNotExist) {
		if err := write(f.serves(fileToken), nobodyElse, []byte(token+"\n")); err != nil {
			return err
		}
	}
	if have, err := f.CAKey(); err != nil || have.Key != "" {
		return err
	}
	return f.SaveCA(ca)
}
