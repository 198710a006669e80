package agent

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/hostsdir"
)

// directory is where our host directories belong, as containerd sees it.
func directory(facts *containerd.Facts) string { return cmp.Or(facts.Effective, facts.NeedsPath) }

// settleIn notes where the host directories are now. Those in a directory that
// containerd's configuration named before are ours to remove.
func (a *Agent) settleIn(facts *containerd.Facts) {
	now := abode{Directory: directory(facts), Instance: facts.Instance}
	a.remember(func(m *memory) {
		if m.Home.Directory != "" && m.Home.Directory != now.Directory {
			m.Left = append(m.Left, m.Home)
		}
		m.Left = slices.DeleteFunc(m.Left, func(l abode) bool { return l.Directory == now.Directory }) // it came back
		m.Home = now
	})
}

// clearOut empties the directories that were left, once another run of
// containerd is proved to use the new one: the one before goes on with the old.
func (a *Agent) clearOut(v *view, facts *containerd.Facts) {
	a.remember(func(m *memory) {
		m.Left = slices.DeleteFunc(m.Left, func(l abode) bool {
			return l.Instance != facts.Instance && a.cleared(v, facts, l.Directory)
		})
	})
}

// cleared removes what is ours from a directory, and reports whether that is
// done.
func (a *Agent) cleared(v *view, facts *containerd.Facts, dir string) bool {
	path := a.seenBy(facts, dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return true
	}
	folder, err := hostsdir.MakeDir(path)
	var res hostsdir.Result
	if err == nil {
		defer func() { _ = folder.Close() }()
		res, err = hostsdir.Apply(folder, nil)
	}
	if err != nil {
		v.trouble("remove our entries from %s: %v", dir, err)
		return false
	}
	if res.Changed() {
		a.log.Info("host directories removed", "directory", dir)
	}
	return true
}

// seenBy is a path of containerd's as this program reaches it.
func (a *Agent) seenBy(facts *containerd.Facts, path string) string {
	return filepath.Join(string(a.proc), strconv.Itoa(facts.PID), "root", path)
}

// places are the directories in which something of ours may be, as containerd
// sees them.
func (a *Agent) places(facts *containerd.Facts) []string {
	all := []string{directory(facts), a.memory.Home.Directory}
	for _, l := range a.memory.Left {
		all = append(all, l.Directory)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(dir string) bool { return dir == "" })
}

// takeHosts removes all host directories of ours, and reports whether they are
// gone.
func (a *Agent) takeHosts(v *view, facts *containerd.Facts) bool {
	gone := true
	for _, dir := range a.places(facts) {
		gone = a.cleared(v, facts, dir) && gone
	}
	if gone {
		a.remember(func(m *memory) { m.Home, m.Left = abode{}, nil })
		a.applied = nil
	}
	return gone
}

// untouched reports whether nothing of ours is left on the node: not where
// containerd looks, or looked, nor in users' files, nor in the main file.
func (a *Agent) untouched(facts *containerd.Facts) bool {
	for _, dir := range a.places(facts) {
		if !asWanted(a.seenBy(facts, dir), nil) {
			return false
		}
	}
	users, err := a.users(facts, layout.Layout{}, hostsdir.Options{}).Check()
	if err != nil || users.Changed() {
		return false
	}
	edited, err := a.changer.Edited(a.main())
	return err == nil && !edited
}
