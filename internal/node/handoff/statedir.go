package handoff

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/pki"
)

// dirServe is the only directory in which serve may write. serve is not root, so
// that it cannot change the files of node, which are beside it.
const dirServe = "serve"

// The files of serve's directory. serve writes all of them, node reads them.
const (
	fileLayout  = "layout.yaml"  // the last good layout
	fileRetired = "retired.json" // names that are routed until node has taken them out of containerd
	fileToken   = "token"        // proves to serve that a request comes from containerd or from node
	fileBefore  = "token.before" // the one before, which is still good for a while
	fileCA      = "ca.crt"
	fileCAKey   = "ca.key"
)

// fileLock is locked by the half that touches the node.
const fileLock = "node.lock"

// maxFile is more than any of these files has: an object of the API server is
// smaller.
const maxFile = 8 << 20

// StateDir is the state that an agent keeps on its node. It is enough to serve
// pulls after a reboot without an API server. Only their owner may read its
// files, and serve the one that node writes for it.
type StateDir struct {
	dir  string
	fsys durable.FS
}

// Open makes the directory if it is not there.
func Open(dir string) (StateDir, error) {
	f := Existing(dir)
	for _, folder := range []string{dir, f.servePath("")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return StateDir{}, fmt.Errorf("make state folder: %w", err)
		}
		if err := restrict(folder); err != nil {
			return StateDir{}, err
		}
	}
	return f, nil
}

// Existing is the state directory as an agent left it. It makes nothing.
func Existing(dir string) StateDir { return StateDir{dir: dir, fsys: durable.Disk{}} }

// On is the same directory on another file system, which tests let fail.
func (f StateDir) On(fsys durable.FS) StateDir {
	f.fsys = fsys
	return f
}

// restrict takes away what Prepare gives to nobody but the owner.
func restrict(folder string) error {
	info, err := os.Lstat(folder)
	if err == nil && info.Mode().Perm()&0o067 != 0 {
		err = os.Chmod(folder, 0o700) //nolint:gosec // G302 is about files; a folder needs x
	}
	if err != nil {
		return fmt.Errorf("close state folder: %w", err)
	}
	return nil
}

// servePath and nodePath are the paths of files that serve and node write.
func (f StateDir) servePath(name string) string { return filepath.Join(f.dir, dirServe, name) }
func (f StateDir) nodePath(name string) string  { return filepath.Join(f.dir, name) }

// Lock waits until no other agent with this state touches the node. Close
// releases the lock.
func (f StateDir) Lock(ctx context.Context) (io.Closer, error) {
	file, err := os.OpenFile(f.nodePath(fileLock), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := durable.Lock(ctx, file); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("wait for another agent of this node: %w", err)
	}
	return file, nil
}

// Layout is the last good layout; the error is fs.ErrNotExist before the first.
func (f StateDir) Layout() (layout.Layout, error) {
	data, err := read(f.servePath(fileLayout))
	if err != nil {
		return layout.Layout{}, err
	}
	l, err := layout.Decode(data)
	if err != nil {
		return layout.Layout{}, fmt.Errorf("saved layout: %w", err)
	}
	return l, nil
}

// SaveLayout returns when the layout is on disk, as it was published.
func (f StateDir) SaveLayout(published []byte) error {
	return f.write(f.servePath(fileLayout), ownerOnly, published)
}

// HasLayout reports whether this is what was saved last.
func (f StateDir) HasLayout(published []byte) bool {
	saved, err := read(f.servePath(fileLayout))
	return err == nil && bytes.Equal(saved, published)
}

// Forget removes the layout and the names that left it, with what a crash may have left
// of them. The token and the certificate stay for a later layout.
func (f StateDir) Forget() error {
	for _, name := range []string{fileRetired + durable.Suffix, fileRetired, fileLayout + durable.Suffix, fileLayout} {
		if err := unlessMissing(f.fsys.Remove(f.servePath(name))); err != nil {
			return fmt.Errorf("forget layout: %w", err)
		}
	}
	if err := f.fsys.SyncDir(f.servePath("")); err != nil {
		return fmt.Errorf("forget layout: %w", err)
	}
	return nil
}

// Retired are the names that SaveRetired saved.
func (f StateDir) Retired() (names []layout.Name, err error) {
	err = readJSON(f.servePath(fileRetired), &names)
	return names, err
}

// SaveRetired remembers names that left the layout but are still routed.
func (f StateDir) SaveRetired(names []layout.Name) error {
	return f.writeJSON(f.servePath(fileRetired), names)
}

// CA is the PEM of the CA of this node's agent; fs.ErrNotExist until serve has
// made one.
func (f StateDir) CA() (string, error) {
	data, err := read(f.servePath(fileCA))
	return string(data), err
}

// CAKey is the CA with its key; zero if there is none.
func (f StateDir) CAKey() (pki.KeyPair, error) {
	cert, err := read(f.servePath(fileCA))
	if err != nil {
		return pki.KeyPair{}, unlessMissing(err)
	}
	key, err := read(f.servePath(fileCAKey))
	return pki.KeyPair{Cert: string(cert), Key: string(key)}, unlessMissing(err)
}

// SaveCA saves the key before the certificate, which is what readers look for.
func (f StateDir) SaveCA(ca pki.KeyPair) error {
	if err := f.write(f.servePath(fileCAKey), ownerOnly, []byte(ca.Key)); err != nil {
		return err
	}
	return f.write(f.servePath(fileCA), ownerOnly, []byte(ca.Cert))
}

// read reads a file that another user may have made. It follows no link, and
// reads only ordinary files.
func read(path string) (data []byte, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err == nil {
		defer func() { _ = file.Close() }()
		data, err = readOrdinary(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read agent state: %w", err)
	}
	return data, nil
}

func readOrdinary(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is not one of ours", file.Name())
	}
	return io.ReadAll(io.LimitReader(file, maxFile))
}

// unlessMissing is no error for a file that is not there.
func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readJSON leaves into as it is if there is no such file.
func readJSON(path string, into any) error {
	data, err := read(path)
	if err != nil {
		return unlessMissing(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return nil
}

func (f StateDir) writeJSON(path string, what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return f.write(path, ownerOnly, data)
}

// ownerOnly is instead of a group that may read a file.
const ownerOnly = -1

// write replaces a file in one step and returns when that is on disk. A group may
// be allowed to read it.
func (f StateDir) write(path string, group int, data []byte) error {
	a := durable.Attributes{}
	if group != ownerOnly {
		a = durable.Attributes{Mode: new(fs.FileMode(0o640)), Owner: &durable.Owner{UID: -1, GID: group}}
	}
	if err := durable.Replace(f.fsys, durable.File{Name: path, Data: data, Attributes: a}); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}
