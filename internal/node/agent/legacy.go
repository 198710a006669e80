package agent

import (
	"context"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
)

// unmanaged is a layout's mode in which the cluster goes without the module.
const unmanaged = "Unmanaged"

// legacy reports whether the node is to go back to the legacy containerd
// format. The order alone is not enough: nothing may be published, and the last
// good layout must be one that may end so, that is an Unmanaged one, or one
// that this node kept while it was away and that the cluster has left since.
func legacy(own *registryv1alpha1.RegistryNode, l layout.Layout, s handoff.Status) bool {
	if own == nil || !own.Spec.Legacy || !s.Absent {
		return false
	}
	if l.Generation < own.Spec.Generation {
		return true
	}
	return l.Mode == unmanaged && (own.Spec.Generation == 0 || own.Spec.Generation == l.Generation)
}

// leave gets the node to where it was before the first layout, then has the
// serving half forget its own.
func (a *Agent) leave(ctx context.Context, v *view, l layout.Layout, s *served, facts *containerd.Facts) {
	a.standing = standing{}
	v.retry = true
	if !a.depart(ctx, v, s, facts) {
		return
	}
	if err := s.client.Forget(ctx, l.Generation); err != nil {
		v.trouble("%s", brief(err))
		return
	}
	v.trouble("on the way back to the legacy containerd format; pulls under way may end first")
}

// depart takes out what is ours, and reports whether it is gone: containerd's
// main file first, while what it names is still there, then the blocks in the
// users' files and our host directories, and last what the serving half knows of
// the users.
func (a *Agent) depart(ctx context.Context, v *view, s *served, facts *containerd.Facts) bool {
	if !a.change(ctx, v, task{facts: facts, legacy: true}) {
		return false
	}
	users := a.users(facts, layout.Layout{}, hostsdir.Options{})
	return a.markUsers(v, users) && a.takeHosts(v, facts) && a.serveUsers(ctx, v, s, nil)
}

// before is a node without a layout: nothing is written, and what is there of
// ours, from a serving half that lost its disk, goes only by the order. An order
// to leave waits for a change that was cut off: its journal would go with the
// folder.
func (a *Agent) before(ctx context.Context, v *view, s *served, facts *containerd.Facts) {
	settled := false // no change of containerd's main file is under way
	if v.own != nil && v.own.Spec.Legacy && s.status.Absent && !a.untouched(facts) {
		settled = a.depart(ctx, v, s, facts)
		v.retry = !settled
	} else {
		settled = a.change(ctx, v, task{facts: facts})
	}
	v.status.Legacy = a.untouched(facts)
	a.files.watchHosts(nil)
	a.applied, a.healed = nil, healed{}
	if ordered(v.own) && settled && v.status.Legacy && s.status.Absent {
		a.dismiss(ctx, v)
	}
}
