package reconfigure

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/d8-registry/registry/internal/node/durable"
)

// Files that we put beside the main file. None ends in .toml, so that no import
// pattern matches them.
const (
	suffixBackup   = ".registry-agent-backup"   // the file before our first edit
	suffixPrevious = ".registry-agent-previous" // the file before the change under way
	suffixNew      = ".registry-agent-new"      // on its way to becoming the file
	suffixCheck    = ".registry-agent-check"    // for containerd to read, before
)

// pathMapping is where the main file and the files beside it are.
type pathMapping struct {
	shown string // what containerd reads
	root  string // of containerd's file system
	file  string // the real file, as we reach it
}

func (r *Reconfigurer) mapPaths(w Want) (pathMapping, error) {
	root, ok := strings.CutSuffix(w.File, w.Shown)
	if !ok || !filepath.IsAbs(w.Shown) {
		return pathMapping{}, fmt.Errorf("main file %s is not %s below some root", w.File, w.Shown)
	}
	real, err := resolveLinks(r.fs, root, filepath.Clean(w.Shown))
	if err != nil {
		return pathMapping{}, err
	}
	return pathMapping{shown: w.Shown, root: root, file: filepath.Join("/", root, real)}, nil
}

func (p pathMapping) dir() string { return filepath.Dir(p.file) }

// check is the path of the new file that containerd is shown. It is beside the
// file that containerd reads: relative imports start there.
func (p pathMapping) check() string { return filepath.Join("/", p.root, p.shown) + suffixCheck }

// read is the main file; there is false if it does not exist.
func (r *Reconfigurer) read(p pathMapping) (data []byte, there bool, err error) {
	info, err := r.fs.Lstat(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look at %s: %w", p.shown, err)
	}
	if !info.Mode().IsRegular() {
		return nil, false, &Refusal{fmt.Sprintf("%s is not a regular file", p.shown)}
	}
	data, err = r.fs.ReadFile(p.file)
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", p.shown, err)
	}
	return data, true, nil
}

// sumOf is the hash of the main file as it is now.
func (r *Reconfigurer) sumOf(p pathMapping) (string, error) {
	data, there, err := r.read(p)
	return sum(data, there), err
}

// removeLeftovers removes what a change that has ended, or never began, left.
func (r *Reconfigurer) removeLeftovers(p pathMapping) error {
	return errors.Join(r.remove(p.file+suffixNew), r.remove(p.check()), r.remove(p.file+suffixPrevious),
		r.remove(p.file+suffixBackup+suffixNew))
}

// backup is the main file before our first edit; nil if there is none.
func (r *Reconfigurer) backup(p pathMapping) ([]byte, error) {
	data, err := r.fs.ReadFile(p.file + suffixBackup)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s%s: %w", p.shown, suffixBackup, err)
	}
	return data, nil
}

// backUp writes what it takes to undo the change: a copy of the file, which can
// take its place again without any free space, and the backup.
func (r *Reconfigurer) backUp(p pathMapping, c *change) error {
	if c.exists {
		a, err := durable.AttributesOf(p.file)
		if err != nil {
			return err
		}
		if err := r.fs.WriteFile(p.file+suffixPrevious, c.before, a); err != nil {
			return err
		}
	}
	if c.legacy || c.keepBackup {
		return r.fs.SyncDir(p.dir())
	}
	if !c.exists {
		return r.remove(p.file + suffixBackup)
	}
	if old, err := r.backup(p); err == nil && old != nil && bytes.Equal(old, c.before) {
		return r.fs.SyncDir(p.dir())
	}
	return r.replace(p.file+suffixBackup, c.before, durable.Attributes{})
}
