package hostsdir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/d8-registry/registry/internal/layout"
)

// owned is the list of directories that are ours: known is what we may touch,
// listed what the file says. They differ when somebody put something of his own
// in the place of ours, and when the file is gone or damaged: then every
// directory that carries our marker is ours.
func (p *pass) owned() (known, listed []string, err error) {
	data, err := p.fsys.ReadFile(ownershipFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read %s: %w", ownershipFile, err)
	}
	if err != nil || json.Unmarshal(data, &listed) != nil {
		known, err := p.allMarked()
		return known, nil, err
	}
	for _, host := range listed {
		// The file names directories to delete: nothing else may come from it.
		if !hostName.MatchString(host) {
			continue
		}
		ours, err := p.still(host)
		if err != nil {
			return nil, nil, err
		}
		if ours {
			known = append(known, host)
		}
	}
	slices.Sort(known)
	return slices.Compact(known), listed, nil
}

// still reports whether a directory on the list is ours even now: it has our
// hosts.toml, or none because a crash was first. The fixed address is nobody
// else's.
func (p *pass) still(host string) (bool, error) {
	if host == layout.Fixed().Host {
		return true, nil
	}
	info, err := p.fsys.Lstat(host)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at host directory %s: %w", host, err)
	}
	if !info.IsDir() {
		return false, nil
	}
	if _, err := p.fsys.Lstat(path.Join(host, fileHosts)); errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return p.marked(host)
}

// marked reports whether a directory has a hosts.toml that we wrote.
func (p *pass) marked(host string) (bool, error) {
	name := path.Join(host, fileHosts)
	info, err := p.fsys.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at hosts.toml of %s: %w", host, err)
	}
	if !info.Mode().IsRegular() {
		return false, nil // we make no links
	}
	data, err := p.fsys.ReadFile(name)
	if err != nil {
		return false, fmt.Errorf("read hosts.toml of %s: %w", host, err)
	}
	return bytes.HasPrefix(data, []byte(marker)), nil
}

func (p *pass) allMarked() ([]string, error) {
	entries, err := p.fsys.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("read host directory: %w", err)
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() || !hostName.MatchString(e.Name()) {
			continue
		}
		marked, err := p.marked(e.Name())
		if err != nil {
			return nil, err
		}
		if marked {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// remember writes the list. A folder in which we never owned anything gets no
// file: a fresh installation writes nothing on any node.
func (p *pass) remember(before, now []string) error {
	if slices.Equal(before, now) {
		return nil
	}
	if len(now) == 0 {
		removed, err := p.remove(ownershipFile)
		if err != nil || !removed || !p.write {
			return err
		}
		return p.sync()
	}
	data, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("encode %s: %w", ownershipFile, err)
	}
	if _, err := p.putFile(ownershipFile, append(data, '\n')); err != nil {
		return err
	}
	return p.sync()
}

func (p *pass) sync() error {
	if !p.write {
		return nil
	}
	if err := p.fsys.SyncDir("."); err != nil {
		return fmt.Errorf("save %s: %w", ownershipFile, err)
	}
	return nil
}
