package agent

import (
	"context"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/hostsdir"
)

// standing is what this node last said that it had proved, and still has.
type standing struct {
	generation int64
	version    string
	names      []string // of that generation
}

// adopt continues the report of the agent that ran here before, if it is about
// this boot of this node. A registry that died meanwhile does not take it back.
func (a *Agent) adopt(own *registryv1alpha1.RegistryNode) {
	if own == nil || a.report.adopted {
		return
	}
	a.report.adopted = true
	s := own.Status
	if a.standing.generation > 0 || s.Generation == 0 || !a.mine(own) {
		return
	}
	a.standing = standing{generation: s.Generation, version: s.Version}
	for _, r := range s.Redirects {
		if r.Proved {
			a.standing.names = append(a.standing.names, r.Name)
		}
	}
}

// mine reports whether a report is about this boot of this node.
func (a *Agent) mine(own *registryv1alpha1.RegistryNode) bool {
	return own.Status.NodeUID == nodeUID(own) && own.Status.BootID == a.cfg.BootID
}

// bring gets the node to where the layout wants it, and notes how far it came.
// What containerd is sent to is there before containerd is: also before the
// restart after which it looks into the directory for the first time.
func (a *Agent) bring(ctx context.Context, v *view, l layout.Layout, s *served, facts *containerd.Facts) {
	if facts.Folder == "" {
		a.standing = standing{}
		a.change(ctx, v, task{facts: facts})
		return
	}
	wanted := a.setUp(ctx, v, l, s, facts)
	fresh := a.passing("directories", !wanted)
	proved, lost := a.prove(ctx, v, l, s, facts, wanted)
	switch {
	case wanted:
		a.change(ctx, v, task{facts: facts, lost: lost, prove: a.proveChange(l, s)})
	case fresh:
		a.keepRestart(v) // what an earlier agent began could not be proved now
	default:
		a.change(ctx, v, task{facts: facts})
	}
	if v.again {
		return
	}
	if wanted && proved {
		a.clearOut(v, facts)
	}
	reached := a.reachTarget(ctx, v, l)
	if wanted && proved && (reached || a.standing.generation == l.Generation) {
		a.standing = standing{generation: l.Generation, version: s.status.Version, names: names(l)}
	}
	v.retry = v.retry || !wanted || !proved || !reached
}

// setUp makes the host directories those of the layout and of the users, and
// reports whether they are. The other half has the users' mirrors before, and
// lets go of removed names after it hears of it.
func (a *Agent) setUp(ctx context.Context, v *view, l layout.Layout, s *served, facts *containerd.Facts) bool {
	options, err := a.options()
	if err != nil {
		v.trouble("%v", err)
		return false
	}
	tree, err := hostsdir.Render(l, options)
	if err != nil {
		v.trouble("%v", err)
		return false
	}
	users := a.users(facts, l, options)
	tellOfUsers(v, users)
	tree = users.Tree(tree)
	if facts.Preflight != containerd.Ready {
		return asWanted(facts.Folder, tree) // what counts goes on to count for as long as it is proved
	}
	a.files.watchHosts(append(watched(facts.Folder, tree), users.Watch...))
	if !a.serveUsers(ctx, v, s, users.Routes) || !a.putHosts(v, tree, facts) || !a.markUsers(v, users) {
		return false
	}
	if err := s.client.Applied(ctx, l.Generation); err != nil {
		v.trouble("%s", brief(err))
		return false
	}
	return true
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
