package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/containerd"
	"github.com/d8-registry/registry/internal/layout"
)

// standing is what this node last said that it had proved, and still has.
type standing struct {
	generation int64
	version    string
	names      []string // of that generation
}

const (
	// patience is how long the other half or containerd may be silent, as in a
	// restart, before the report says so.
	patience = 10 * time.Second
	// soon and later are between two passes that do not get through.
	soon  = time.Second
	later = 30 * time.Second
)

// pass looks at the node, does what is to be done and reports. It returns when
// the next pass is due if nothing wakes it before. The order is the protocol:
// host directories, removals acknowledged, proof, target, report.
func (a *Agent) pass(ctx context.Context) time.Duration {
	own := a.report.latest()
	a.adopt(own)
	v := &view{}
	v.status.AgentVersion, v.status.BootID = a.cfg.Version, a.cfg.BootID
	v.status.NodeUID = nodeUID(own)
	v.status.Containerd.SourceDirectory = a.cfg.SourceDir

	facts := a.lookAtContainerd(ctx, v)
	if l, s := a.lookAtServe(v, facts); s != nil && facts != nil {
		if l.Generation != a.seen {
			a.seen, a.failing = l.Generation, time.Time{} // a new try
		}
		if legacy(own, l, s.status) {
			a.leave(ctx, v, l, s, facts)
		} else {
			a.bring(ctx, v, l, s, facts)
		}
	}
	v.status.Generation, v.status.Version = a.standing.generation, a.standing.version
	v.status.Message = strings.Join(v.problems, "; ")
	if ctx.Err() != nil {
		return later
	}
	if !v.hold && own != nil {
		if err := a.report.write(ctx, v.status); err != nil {
			a.log.Warn("report not written", "err", err)
			v.retry = true
		}
	}
	return a.next(v)
}

// next is when to look again: soon after a trouble began, and less and less
// often while it lasts.
func (a *Agent) next(v *view) time.Duration {
	if v.retry || v.hold {
		if a.failing.IsZero() {
			a.failing = a.now()
		}
		return max(soon, min(a.now().Sub(a.failing)/2, later))
	}
	a.failing = time.Time{}
	if len(v.problems) > 0 {
		return later
	}
	return a.cfg.ProofInterval / 2
}

// view is one pass under way.
type view struct {
	status   registryv1alpha1.RegistryNodeStatus
	problems []string
	hold     bool // nothing is reported yet: it may be over in a moment
	retry    bool
}

func (v *view) trouble(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// adopt continues the report of the agent that ran here before, if it is about
// this boot of this node. A registry that died meanwhile does not take it back.
func (a *Agent) adopt(own *registryv1alpha1.RegistryNode) {
	if own == nil || a.report.adopted {
		return
	}
	a.report.adopted = true
	s := own.Status
	if a.standing.generation > 0 || s.Generation == 0 || s.NodeUID != nodeUID(own) || s.BootID != a.cfg.BootID {
		return
	}
	a.standing = standing{generation: s.Generation, version: s.Version}
	for _, r := range s.Redirects {
		if r.Proved {
			a.standing.names = append(a.standing.names, r.Name)
		}
	}
}

// passing reports whether a trouble is so fresh that it may be a restart.
func (a *Agent) passing(what string, there bool) bool {
	if !there {
		delete(a.since, what)
		return false
	}
	if a.since[what].IsZero() {
		a.since[what] = a.now()
	}
	return a.now().Sub(a.since[what]) < patience
}

// known is what was found out about containerd, and when.
type known struct {
	facts containerd.Facts
	at    time.Time
}

// stale is soon true for a configuration that somebody should be repairing.
func (k *known) stale(now time.Time, interval time.Duration) bool {
	if k == nil {
		return true
	}
	if k.facts.Preflight != containerd.Ready {
		interval = min(interval, later)
	}
	return now.Sub(k.at) >= interval
}

// lookAtContainerd asks containerd's binary for its configuration only when it
// may have changed: it takes a process to do so.
func (a *Agent) lookAtContainerd(ctx context.Context, v *view) *containerd.Facts {
	if a.forget.Swap(false) || a.known.stale(a.now(), a.cfg.ProofInterval) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		facts, err := containerd.Discover(ctx, a.cri, containerd.Options{Socket: a.cfg.Socket, Effective: a.cfg.HostsDir})
		if err != nil {
			a.known = nil
			v.retry = true
			if v.hold = a.passing("containerd", true); !v.hold {
				// What is not running proves nothing.
				a.standing = standing{}
				v.trouble("containerd does not answer: %v", err)
			}
			return nil
		}
		a.known = &known{facts: facts, at: a.now()}
		a.files.watchConfig(facts.ConfigDirs)
	}
	a.passing("containerd", false)
	f := &a.known.facts
	v.status.Preflight = string(f.Preflight)
	v.status.Containerd.Version = f.Version
	v.status.Containerd.EffectiveDirectory = f.Effective
	if f.Preflight != containerd.Ready {
		v.trouble("%s", f.Message)
	}
	return f
}

// lookAtServe is the layout that is served, and who serves it; nobody while
// there is nothing to do.
func (a *Agent) lookAtServe(v *view, facts *containerd.Facts) (layout.Layout, *served) {
	s := a.serving.Load()
	if s == nil {
		v.retry = true
		if a.passing("serve", true) {
			v.hold = true
			return layout.Layout{}, nil
		}
		a.standing = standing{}
		v.trouble("the serving half of the agent does not answer")
		return layout.Layout{}, nil
	}
	a.passing("serve", false)
	if s.status.Generation < a.standing.generation {
		a.standing = standing{} // its disk was lost: what it does not serve is not proved
	}
	if s.status.Problem != "" {
		v.trouble("%s", s.status.Problem)
	}
	l, err := a.folder.Layout()
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.status.Generation == 0:
		// Nothing was ever published: nothing is written on any node.
		a.before(v, facts)
		return layout.Layout{}, nil
	case err != nil:
		v.retry = true
		v.trouble("%v", err)
		return layout.Layout{}, nil
	case l.Generation != s.status.Generation:
		// Saved, and served in a moment; or the other way round.
		v.retry = true
		if v.hold = a.passing("disk", true); !v.hold {
			v.trouble("generation %d is served, but %d is on disk", s.status.Generation, l.Generation)
		}
		return layout.Layout{}, nil
	}
	a.passing("disk", false)
	return l, s
}

// bring gets the node to where the layout wants it, and notes how far it came.
func (a *Agent) bring(ctx context.Context, v *view, l layout.Layout, s *served, facts *containerd.Facts) {
	if facts.Folder == "" {
		a.standing = standing{}
		return
	}
	tree, err := a.render(l)
	if err != nil {
		v.trouble("%v", err)
	}
	wanted := err == nil && a.putHosts(v, tree, facts)
	if wanted {
		// The other half lets go of removed names when it hears this.
		if err := s.client.Applied(ctx, l.Generation); err != nil {
			wanted = false
			v.trouble("%s", brief(err))
		}
	}
	proved := a.prove(ctx, v, l, s, facts, wanted)
	if wanted && proved {
		a.clearOut(v, facts)
	}
	reached := a.reachTarget(ctx, v, l)
	if wanted && proved && (reached || a.standing.generation == l.Generation) {
		a.standing = standing{generation: l.Generation, version: s.status.Version, names: names(l)}
	}
	v.retry = v.retry || !wanted || !proved || !reached
}

// prove makes containerd ask the serving half for every name. A name that this
// node relied on and that fails takes the report back. While the host
// directories are not as wanted only those are asked for: all others would end
// up at somebody's real registry.
func (a *Agent) prove(ctx context.Context, v *view, l layout.Layout, s *served, facts *containerd.Facts, wanted bool) bool {
	all := true
	for _, n := range l.Names() {
		relied := slices.Contains(a.standing.names, n.String())
		err := errNotSetUp
		if wanted || relied {
			key := facts.Instance + " " + contentKey(facts.Folder, n.Host)
			err = a.proofs.prove(ctx, s.client, n, key, nonce(v.status.NodeUID, l.Generation))
		}
		r := registryv1alpha1.RedirectStatus{Name: n.String(), Proved: err == nil}
		if err != nil {
			all = false
			r.Message = brief(err)
			if !errors.Is(err, errNotSetUp) {
				v.trouble("%s: %s", n, r.Message)
			}
			a.doubt(ctx, v, relied, err)
		}
		v.status.Redirects = append(v.status.Redirects, r)
	}
	if !v.hold {
		a.passing("proof", false)
	}
	return all
}

// doubt takes the report back when a name that it relied on is not proved. A
// question that was not answered proves nothing for a moment: the other half or
// containerd starts again.
func (a *Agent) doubt(ctx context.Context, v *view, relied bool, err error) {
	if !relied || ctx.Err() != nil {
		return
	}
	if !errors.Is(err, errNotSeen) && a.passing("proof", true) {
		v.hold = true
		return
	}
	a.standing = standing{}
}

// reachTarget asks every registry of the layout whether it is there. Only the
// target's answer is required: the old one may be dead, which is why it is
// being left.
func (a *Agent) reachTarget(ctx context.Context, v *view, l layout.Layout) bool {
	answers := a.reach.ask(ctx, l)
	ok := true
	for _, u := range answers {
		state := registryv1alpha1.UpstreamStatus{Registry: u.registry, Reached: u.err == nil}
		if u.err != nil {
			state.Message = brief(u.err)
			if u.target {
				ok = false
				v.trouble("target %s: %s", u.registry, state.Message)
			}
		}
		v.status.Upstreams = append(v.status.Upstreams, state)
	}
	return ok
}

func names(l layout.Layout) []string {
	var out []string
	for _, n := range l.Names() {
		out = append(out, n.String())
	}
	return out
}
