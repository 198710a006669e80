package hostsdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// owned is the list of directories that are ours: known is what we may touch,
// listed what the file says. They differ when the file is damaged: then every
// directory that carries our marker is ours.
func (p *pass) owned() (known, listed []string, err error) {
	data, err := p.fsys.ReadFile(ownershipFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", ownershipFile, err)
	}
	if err := json.Unmarshal(data, &listed); err != nil {
		known, err := p.allMarked()
		return known, nil, err
	}
	// The file names directories to delete: nothing else may come from it.
	known = slices.DeleteFunc(slices.Clone(listed), func(host string) bool { return !hostName.MatchString(host) })
	slices.Sort(known)
	return slices.Compact(known), listed, nil
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
	if err := p.fsys.Sync("."); err != nil {
		return fmt.Errorf("save %s: %w", ownershipFile, err)
	}
	return nil
}
