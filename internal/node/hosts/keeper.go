package hosts

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/upstream"
)

// repairedFor is how long the report says that a change by hand was undone.
const repairedFor = time.Minute

// Server is the serving half.
type Server interface {
	// Mirrors tells it to read what SaveMirrors saved.
	Mirrors(ctx context.Context) error
	// Applied tells it that host directories are those of a generation.
	Applied(ctx context.Context, generation int64) error
}

// State is the folder that is shared with the serving half.
type State interface {
	SaveMirrors(hosts []upstream.UserHost) (changed bool, err error)
}

// Options are a Keeper's parts.
type Options struct {
	// SourceDir is where users and scripts write host directories.
	SourceDir string
	State     State
	// Watch says which directories matter from now on. A change in one of them is
	// reason for a pass.
	Watch func(dirs []string)
	// Places are what Save saved last.
	Places Places
	Save   func(Places)
	Log    *slog.Logger
}

// Keeper keeps the host directories of one node. It is used by one goroutine.
type Keeper struct {
	o    Options
	proc string // the kernel's list of processes
	now  func() time.Time

	places        Places
	applied       hostsdir.Tree // what was written last
	repaired      repair        // what was changed by hand
	mirrorsServed bool          // the serving half has what SaveMirrors saved
}

// repair is a change by hand that was undone.
type repair struct {
	at   time.Time
	what string
}

// Target is what the host directories should be.
type Target struct {
	Layout layout.Layout
	// Agent is what entries must say about the serving half.
	Agent hostsdir.Options
	Facts *containerd.Facts
	Serve Server
}

// New makes a Keeper.
func New(o Options) *Keeper {
	return &Keeper{o: o, proc: "/proc", now: time.Now, places: o.Places}
}

// Converge makes the host directories what the layout and the users want, and
// reports whether they are. The serving half gets the users' mirrors before, and
// hears last that all is written: then it may drop names that are gone.
func (k *Keeper) Converge(ctx context.Context, r *report.Report, t Target) bool {
	t.Agent.Containerd = t.Facts.Version
	tree, err := hostsdir.Render(t.Layout, t.Agent)
	if err != nil {
		r.Problemf("%v", err)
		return false
	}
	users := k.users(t.Facts, t.Layout, t.Agent)
	warnUsers(r, users)
	tree = users.Tree(tree)
	for _, d := range tree {
		if d.Warning != "" {
			r.Warn(d.Warning)
		}
	}
	if t.Facts.Preflight != containerd.Ready {
		return upToDate(t.Facts.HostsDir, tree) // nothing is written; what is there still counts
	}
	k.o.Watch(append(watched(t.Facts.HostsDir, tree), users.Watch...))
	if !k.serveUsers(ctx, r, t.Serve, users.Routes) || !k.write(r, tree, t.Facts) || !k.markUsers(r, users) {
		return false
	}
	if err := t.Serve.Applied(ctx, t.Layout.Generation); err != nil {
		r.Problemf("%s", report.Brief(err))
		return false
	}
	return true
}

// Revert takes out everything of ours, and reports whether it is gone: the
// blocks in users' files, our host directories, and then what the serving half
// knows about the users.
func (k *Keeper) Revert(ctx context.Context, r *report.Report, serve Server, facts *containerd.Facts) bool {
	users := k.users(facts, layout.Layout{}, hostsdir.Options{})
	return k.markUsers(r, users) && k.removeAll(r, facts) && k.serveUsers(ctx, r, serve, nil)
}

// Rest is for a node on which nothing of ours is wanted: it watches nothing, and
// forgets what was written.
func (k *Keeper) Rest() {
	k.o.Watch(nil)
	k.applied, k.repaired = nil, repair{}
}

// Untouched reports whether nothing of ours is left: not where containerd looks
// or looked, and not in users' files.
func (k *Keeper) Untouched(facts *containerd.Facts) bool {
	for _, dir := range k.everywhere(facts) {
		if !upToDate(k.reach(facts, dir), nil) {
			return false
		}
	}
	users, err := k.users(facts, layout.Layout{}, hostsdir.Options{}).Check()
	return err == nil && !users.Changed()
}

// write makes containerd's host directory look like the tree.
func (k *Keeper) write(r *report.Report, tree hostsdir.Tree, facts *containerd.Facts) bool {
	dir, err := hostsdir.MakeDir(facts.HostsDir)
	if err != nil {
		r.Problemf("%v", err)
		return false
	}
	defer func() { _ = dir.Close() }()
	k.moveTo(facts)
	res, err := hostsdir.Apply(dir, tree)
	if res.Changed() {
		k.o.Log.Info("host directories written", "written", res.Written, "removed", res.Removed)
	}
	if err != nil {
		r.Problemf("%v", err)
		return false
	}
	if res.Changed() && k.applied != nil && same(k.applied, tree) {
		k.repaired = repair{at: k.now(), what: strings.Join(append(res.Written, res.Removed...), ", ")}
	}
	k.applied = tree
	if k.repaired.what != "" && k.now().Sub(k.repaired.at) < repairedFor {
		r.Problemf("put back what was changed by hand: %s", k.repaired.what)
	}
	for _, c := range res.Conflicts {
		r.Problemf("%s: %s is in the way: %s", c.Host, filepath.Join(effective(facts), c.Directory), c.Reason)
	}
	return true
}

// upToDate reports whether a directory looks like the tree. It writes nothing.
func upToDate(path string, tree hostsdir.Tree) bool {
	if _, err := os.Stat(path); err != nil {
		return errors.Is(err, fs.ErrNotExist) && len(tree) == 0
	}
	dir, err := hostsdir.OpenDir(path)
	if err != nil {
		return false
	}
	defer func() { _ = dir.Close() }()
	res, err := hostsdir.Check(dir, tree)
	return err == nil && !res.Changed()
}

func same(a, b hostsdir.Tree) bool {
	return slices.EqualFunc(a, b, func(x, y hostsdir.Directory) bool {
		return x.Host == y.Host && slices.EqualFunc(x.Files, y.Files, func(f, g hostsdir.File) bool {
			return f.Name == g.Name && string(f.Data) == string(g.Data)
		})
	})
}

// watched are the directories in which a change by hand must be noticed.
func watched(hostsDir string, tree hostsdir.Tree) []string {
	out := []string{hostsDir}
	for _, d := range tree {
		out = append(out, filepath.Join(hostsDir, d.Host))
	}
	return out
}

// users is what is to be done about users' host directories. A layout without
// routes means that nothing of ours is wanted in them.
func (k *Keeper) users(facts *containerd.Facts, l layout.Layout, agent hostsdir.Options) usermirror.Plan {
	node := usermirror.Node{Root: k.reach(facts, "/"), Source: k.o.SourceDir, Effective: effective(facts), Containerd: facts.Version}
	return usermirror.NewPlan(node, l, agent)
}

// reach is a path as containerd sees it, as this program reaches it.
func (k *Keeper) reach(facts *containerd.Facts, path string) string {
	return filepath.Join(k.proc, strconv.Itoa(facts.PID), "root", path)
}
