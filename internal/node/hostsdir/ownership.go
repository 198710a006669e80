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

// isOurs decides whether a whole directory in containerd's host directory is ours:
// only then is anything in it written or removed. No other place decides that. Our
// blocks in users' files are found in usermirror/block.go, our edit of containerd's
// main file in mainfile/restore.go. Ours is
//
//   - a directory whose hosts.toml begins with our marker,
//   - one on our list (listed) that has no hosts.toml: a crash came before it,
//   - the directory of the fixed address, if listed, whatever is in it: that name is
//     nobody else's. For it the caller passes listed = true, even if it is not on
//     the list,
//   - a name that nobody uses yet.
//
// A symbolic link is never ours, and neither is a listed directory in which
// somebody put a hosts.toml of their own: they are reported as conflicts.
func (p *pass) isOurs(host string, listed bool) (bool, error) {
	info, err := p.fsys.Lstat(host)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("look at host directory %s: %w", host, err)
	case !info.IsDir():
		return false, nil
	case listed && host == layout.Fixed().Host:
		return true, nil
	}
	name := path.Join(host, fileHosts)
	info, err = p.fsys.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return listed, nil
	case err != nil:
		return false, fmt.Errorf("look at hosts.toml of %s: %w", host, err)
	case !info.Mode().IsRegular():
		return false, nil // we make no links
	}
	data, err := p.fsys.ReadFile(name)
	if err != nil {
		return false, fmt.Errorf("read hosts.toml of %s: %w", host, err)
	}
	return Marked(data), nil
}

// marker is the first line of every hosts.toml of ours.
const marker = "# Written by registry-agent, which undoes changes made by hand.\n"

// Marked reports whether a hosts.toml is one that we wrote completely.
func Marked(data []byte) bool { return bytes.HasPrefix(data, []byte(marker)) }

// owned: known are ours by isOurs, listed is the list on disk. A directory is listed
// but not known if somebody replaced it. Without a list, the marker decides.
func (p *pass) owned() (known, listed []string, err error) {
	data, err := p.fsys.ReadFile(ownershipFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read %s: %w", ownershipFile, err)
	}
	if err != nil || json.Unmarshal(data, &listed) != nil {
		entries, err := p.fsys.ReadDir(".")
		if err != nil {
			return nil, nil, fmt.Errorf("read host directory: %w", err)
		}
		var all []string
		for _, e := range entries {
			all = append(all, e.Name())
		}
		// A file with the name of a host is not ours either.
		known, err = p.oursOf(all, false)
		return known, nil, err
	}
	known, err = p.oursOf(listed, true)
	return known, listed, err
}

// oursOf are those names that are of directories of ours. They may be deleted: a
// name that is no host is ignored.
func (p *pass) oursOf(names []string, listed bool) (ours []string, err error) {
	for _, name := range names {
		if !hostName.MatchString(name) {
			continue
		}
		if is, err := p.isOurs(name, listed); err != nil {
			return nil, err
		} else if is {
			ours = append(ours, name)
		}
	}
	slices.Sort(ours)
	return slices.Compact(ours), nil
}

// remember writes the list. If nothing was ever ours there is no list: a fresh
// installation writes nothing on any node.
func (p *pass) remember(before, now []string) error {
	if slices.Equal(before, now) {
		return nil
	}
	if len(now) == 0 {
		if removed, err := p.remove(ownershipFile); err != nil || !removed {
			return err
		}
	} else {
		data, err := json.Marshal(now)
		if err != nil {
			return fmt.Errorf("encode %s: %w", ownershipFile, err)
		}
		if _, err := p.putFile(ownershipFile, append(data, '\n')); err != nil {
			return err
		}
	}
	if err := p.fsys.SyncDir("."); err != nil {
		return fmt.Errorf("save %s: %w", ownershipFile, err)
	}
	return nil
}
