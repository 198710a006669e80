package hostsdir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/node/durable"
)

// Result is what Apply did, or what Check found to do. Paths are relative to
// containerd's host directory.
type Result struct {
	Written   []string   // files, in the order of writing; the ownership file is among them
	Removed   []string   // directories that are no longer ours
	Conflicts []Conflict // hosts that we could not take
}

// Changed reports whether anything was written or removed.
func (r Result) Changed() bool { return len(r.Written)+len(r.Removed) > 0 }

// Conflict is a directory of somebody else in the way of ours.
type Conflict struct {
	Host      string // the host that we want
	Directory string // the directory in the way
	Reason    string // a sentence for the operator
}

// Apply makes containerd's host directory look like the tree. An error or a crash
// may stop it at any operation: what containerd reads is complete at any moment,
// and the next Apply goes on from there.
func Apply(fsys durable.FS, tree Tree) (Result, error) {
	p := &pass{fsys: fsys}
	err := p.run(tree)
	return p.res, err
}

// Check is Apply without writing anything.
func Check(fsys durable.FS, tree Tree) (Result, error) { return Apply(durable.DryRun{FS: fsys}, tree) }

// pass is one Apply under way.
type pass struct {
	fsys durable.FS
	res  Result
}

func (p *pass) run(tree Tree) error {
	known, listed, err := p.owned()
	if err != nil {
		return err
	}
	ours, err := p.claim(tree, known)
	if err != nil {
		return err
	}
	wanted := make([]string, 0, len(ours))
	for _, d := range ours {
		wanted = append(wanted, d.Host)
	}
	slices.Sort(wanted)
	// A directory is on the list before it exists, and until it is gone: after a
	// crash in between it is still known to be ours.
	if err := p.remember(listed, union(known, wanted)); err != nil {
		return err
	}
	for _, d := range ours {
		if err := p.put(d); err != nil {
			return err
		}
	}
	for _, host := range known {
		if slices.Contains(wanted, host) {
			continue
		}
		if err := p.drop(host); err != nil {
			return err
		}
	}
	return p.remember(union(known, wanted), wanted)
}

// claim is the part of the tree that we may write. It notes a conflict for each
// directory of the rest.
func (p *pass) claim(tree Tree, known []string) (Tree, error) {
	var may Tree
	for _, d := range tree {
		if !hostName.MatchString(d.Host) {
			return nil, fmt.Errorf("apply host directories: %q is no registry host", d.Host)
		}
		if s := preferredName(d.Host); s != "" {
			switch _, err := p.fsys.Lstat(s); {
			case err == nil:
				p.conflict(d.Host, s, "containerd prefers this directory to ours; remove it")
				if !d.Fixed {
					continue
				}
			case !errors.Is(err, fs.ErrNotExist):
				return nil, fmt.Errorf("look at host directory %s: %w", s, err)
			}
		}
		ours, err := p.isOurs(d.Host, d.Fixed || slices.Contains(known, d.Host))
		if err != nil {
			return nil, err
		}
		if !ours {
			p.conflict(d.Host, d.Host, "somebody else made this directory; it was left as it is")
			continue
		}
		may = append(may, d)
	}
	return may, nil
}

func (p *pass) conflict(host, dir, reason string) {
	p.res.Conflicts = append(p.res.Conflicts, Conflict{Host: host, Directory: dir, Reason: reason})
}

// put makes one directory look as wanted. Certificates come first, then
// hosts.toml. Certificates that it no longer names are removed last.
func (p *pass) put(d Directory) error {
	if _, err := p.fsys.Lstat(d.Host); errors.Is(err, fs.ErrNotExist) {
		err := p.fsys.Mkdir(d.Host, 0o755)
		if err == nil {
			err = p.fsys.SyncDir(".")
		}
		if err != nil {
			return fmt.Errorf("make host directory %s: %w", d.Host, err)
		}
	}
	changed := false
	for _, f := range d.Files {
		if f.Name == fileHosts {
			// Its certificates must be there after a power cut too.
			if err := p.save(d.Host, changed); err != nil {
				return err
			}
		}
		wrote, err := p.putFile(path.Join(d.Host, f.Name), f.Data)
		if err != nil {
			return err
		}
		changed = changed || wrote
	}
	if err := p.save(d.Host, changed); err != nil {
		return err
	}
	changed = false
	for _, name := range ourFiles() {
		if slices.ContainsFunc(d.Files, func(f File) bool { return f.Name == name }) {
			continue
		}
		removed, err := p.remove(path.Join(d.Host, name))
		if err != nil {
			return err
		}
		changed = changed || removed
	}
	return p.save(d.Host, changed)
}

// save returns when what changed in a directory is on disk.
func (p *pass) save(host string, changed bool) error {
	if !changed {
		return nil
	}
	if err := p.fsys.SyncDir(host); err != nil {
		return fmt.Errorf("save host directory %s: %w", host, err)
	}
	return nil
}

// putFile replaces a file in one step if content or mode differ. The temporary
// name is always the same, so that a crash leaves at most one such file.
func (p *pass) putFile(name string, data []byte) (bool, error) {
	info, err := p.fsys.Lstat(name)
	if err == nil && info.Mode() == 0o600 {
		old, err := p.fsys.ReadFile(name)
		if err == nil && bytes.Equal(old, data) {
			return false, nil
		}
	}
	p.res.Written = append(p.res.Written, name)
	if err := durable.Swap(p.fsys, durable.File{Name: name, Temp: name + tempSuffix, Data: data}); err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	return true, nil
}

// drop removes our files from a directory, hosts.toml first. The directory goes
// too, unless there are other files in it.
func (p *pass) drop(host string) error {
	info, err := p.fsys.Lstat(host)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("remove host directory %s: %w", host, err)
	case !info.IsDir():
		return nil // somebody replaced it with something of their own
	}
	p.res.Removed = append(p.res.Removed, host)
	files := ourFiles()
	slices.Reverse(files)
	for _, name := range files {
		for _, n := range []string{name, name + tempSuffix} {
			if _, err := p.remove(path.Join(host, n)); err != nil {
				return err
			}
		}
	}
	rest, err := p.fsys.ReadDir(host)
	switch {
	case err != nil:
	case len(rest) == 0:
		err = p.fsys.Remove(host)
	default:
		// We are about to forget that anything in it was ours.
		err = p.fsys.SyncDir(host)
	}
	if err == nil {
		err = p.fsys.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("remove host directory %s: %w", host, err)
	}
	return nil
}

func (p *pass) remove(name string) (bool, error) {
	if _, err := p.fsys.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err := p.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove %s: %w", name, err)
	}
	return true, nil
}

// ourFiles are all names that we ever write into a host's directory, in the
// order of writing.
func ourFiles() []string { return []string{fileAgentCA, fileFallbackCA, fileServerCA, fileHosts} }

func union(a, b []string) []string {
	out := append(slices.Clone(a), b...)
	slices.SortFunc(out, strings.Compare)
	return slices.Compact(out)
}
