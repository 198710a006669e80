package seam

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/d8-registry/registry/internal/filelock"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
)

// The files of the state folder. serve writes all of them, node reads.
const (
	fileLayout  = "layout.yaml"  // the last good layout
	fileRetired = "retired.json" // names that are routed until node has taken them out of containerd
	fileToken   = "token"        // proves to serve that a request comes from containerd or from node
	fileCA      = "ca.crt"
	fileCAKey   = "ca.key"
	fileLock    = "node.lock" // held by the half that touches the node
)

// Folder is the state that an agent keeps on its node: enough to serve pulls
// after a reboot, with no API server in sight. Everything in it is 0600.
type Folder struct{ dir string }

// Open makes the folder if need be.
func Open(dir string) (Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Folder{}, fmt.Errorf("make state folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // G302 is about files; a folder needs x
		return Folder{}, fmt.Errorf("close state folder: %w", err)
	}
	return Folder{dir: dir}, nil
}

// Lock waits until no other agent touches the node by this folder. Closing what
// it returns gives the lock back.
func (f Folder) Lock(ctx context.Context) (io.Closer, error) {
	file, err := os.OpenFile(filepath.Join(f.dir, fileLock), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := filelock.Lock(ctx, file); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("wait for another agent of this node: %w", err)
	}
	return file, nil
}

// Layout is the last good layout; fs.ErrNotExist before the first.
func (f Folder) Layout() (layout.Layout, error) {
	data, err := f.read(fileLayout)
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
func (f Folder) SaveLayout(published []byte) error { return f.write(fileLayout, published) }

// Forget removes the layout and what belongs to it. The token and the
// certificate stay: a later layout uses them again.
func (f Folder) Forget() error {
	for _, name := range []string{fileRetired, fileLayout} {
		if err := os.Remove(filepath.Join(f.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget layout: %w", err)
		}
	}
	if err := f.sync(); err != nil {
		return fmt.Errorf("forget layout: %w", err)
	}
	return nil
}

// Retired are the names that SaveRetired saved last.
func (f Folder) Retired() ([]layout.Name, error) {
	data, err := f.read(fileRetired)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []layout.Name
	if err := json.Unmarshal(data, &names); err != nil {
		return nil, fmt.Errorf("read %s: %w", fileRetired, err)
	}
	return names, nil
}

// SaveRetired remembers names that left the layout but are still routed.
func (f Folder) SaveRetired(names []layout.Name) error {
	data, err := json.Marshal(names)
	if err != nil {
		return fmt.Errorf("encode %s: %w", fileRetired, err)
	}
	return f.write(fileRetired, data)
}

// Token is the node token; fs.ErrNotExist until serve has made one.
func (f Folder) Token() (string, error) {
	data, err := f.read(fileToken)
	return strings.TrimSpace(string(data)), err
}

// EnsureToken is Token, and makes one of 256 random bits if there is none.
func (f Folder) EnsureToken() (string, error) {
	token, err := f.Token()
	if err == nil && len(token) >= 32 {
		return token, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var bits [32]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return "", fmt.Errorf("make node token: %w", err)
	}
	token = hex.EncodeToString(bits[:])
	return token, f.write(fileToken, []byte(token+"\n"))
}

// CA is the PEM of the certificate authority of this node's agent;
// fs.ErrNotExist until serve has made one.
func (f Folder) CA() (string, error) {
	data, err := f.read(fileCA)
	return string(data), err
}

// CAKey is the CA with its key; zero if there is none.
func (f Folder) CAKey() (pki.KeyPair, error) {
	cert, err := f.read(fileCA)
	if errors.Is(err, fs.ErrNotExist) {
		return pki.KeyPair{}, nil
	}
	if err != nil {
		return pki.KeyPair{}, err
	}
	key, err := f.read(fileCAKey)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pki.KeyPair{}, err
	}
	return pki.KeyPair{Cert: string(cert), Key: string(key)}, nil
}

// SaveCA saves the key before the certificate, which is what readers look for.
func (f Folder) SaveCA(ca pki.KeyPair) error {
	if err := f.write(fileCAKey, []byte(ca.Key)); err != nil {
		return err
	}
	return f.write(fileCA, []byte(ca.Cert))
}

func (f Folder) read(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		return nil, fmt.Errorf("read agent state: %w", err)
	}
	return data, nil
}

// write replaces a file in one step and returns when that is on disk.
func (f Folder) write(name string, data []byte) (err error) {
	path := filepath.Join(f.dir, name)
	defer func() {
		if err != nil {
			err = fmt.Errorf("save %s: %w", path, err)
		}
	}()
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return f.sync()
}

// sync returns when renames and removals are on disk.
func (f Folder) sync() error {
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
