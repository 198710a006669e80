package hosts

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/report"
)

// Places are the directories that have host directories of ours. They survive a
// restart of the agent; the JSON keys are those of the state folder.
type Places struct {
	// Present is where they are now.
	Present Place `json:"home"`
	// Former are where they were, and may still be.
	Former []Place `json:"left,omitempty"`
}

// Place is one such directory, and the run of containerd that was seen with it.
type Place struct {
	Directory string `json:"directory"` // as containerd sees it
	Instance  string `json:"instance"`
}

// effective is where our host directories belong, as containerd sees it.
func effective(facts *containerd.Facts) string { return cmp.Or(facts.Effective, facts.NeedsPath) }

// change changes the places, and saves them if that made a difference.
func (k *Keeper) change(edit func(p *Places)) {
	next := Places{Present: k.places.Present, Former: slices.Clone(k.places.Former)}
	edit(&next)
	if next.Present == k.places.Present && slices.Equal(next.Former, k.places.Former) {
		return
	}
	k.places = next
	k.o.Save(next)
}

// moveTo notes where the host directories are now. Those in a directory that
// containerd's configuration named before are ours to remove.
func (k *Keeper) moveTo(facts *containerd.Facts) {
	now := Place{Directory: effective(facts), Instance: facts.Instance}
	k.change(func(p *Places) {
		if p.Present.Directory != "" && p.Present.Directory != now.Directory {
			p.Former = append(p.Former, p.Present)
		}
		p.Former = slices.DeleteFunc(p.Former, func(l Place) bool { return l.Directory == now.Directory }) // it is in use again
		p.Present = now
	})
}

// CleanUp empties former directories. It may be called when this run of
// containerd is proved to use the present one; a directory that the same run was
// seen with stays.
func (k *Keeper) CleanUp(r *report.Report, facts *containerd.Facts) {
	k.change(func(p *Places) {
		p.Former = slices.DeleteFunc(p.Former, func(l Place) bool {
			return l.Instance != facts.Instance && k.empty(r, facts, l.Directory)
		})
	})
}

// empty removes what is ours from a directory, and reports whether that is done.
func (k *Keeper) empty(r *report.Report, facts *containerd.Facts, dir string) bool {
	open, err := hostsdir.OpenDir(k.reach(facts, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	var res hostsdir.Result
	if err == nil {
		defer func() { _ = open.Close() }()
		res, err = hostsdir.Apply(open, nil)
	}
	if err != nil {
		r.Problemf("remove our entries from %s: %v", dir, err)
		return false
	}
	if res.Changed() {
		k.o.Log.Info("host directories removed", "directory", dir)
	}
	return true
}

// everywhere is every directory in which something of ours may be, as containerd
// sees it.
func (k *Keeper) everywhere(facts *containerd.Facts) []string {
	all := []string{effective(facts), k.places.Present.Directory}
	for _, l := range k.places.Former {
		all = append(all, l.Directory)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(dir string) bool { return dir == "" })
}

// removeAll removes all host directories of ours, and reports whether they are
// gone.
func (k *Keeper) removeAll(r *report.Report, facts *containerd.Facts) bool {
	gone := true
	for _, dir := range k.everywhere(facts) {
		gone = k.empty(r, facts, dir) && gone
	}
	if gone {
		k.change(func(p *Places) { *p = Places{} })
		k.applied = nil
	}
	return gone
}
