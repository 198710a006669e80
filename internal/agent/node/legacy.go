package node

import (
	"context"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/agent/seam"
	"github.com/d8-registry/registry/internal/containerd"
	"github.com/d8-registry/registry/internal/layout"
)

// unmanaged is a layout's mode in which the cluster goes without the module.
const unmanaged = "Unmanaged"

// legacy reports whether the node is to go back to the legacy containerd
// format. The order alone is not enough: nothing may be published, and the last
// good layout must be one that may end so, that is an Unmanaged one, or one
// that this node kept while it was away and that the cluster has left since.
func legacy(own *registryv1alpha1.RegistryNode, l layout.Layout, s seam.Status) bool {
	if own == nil || !own.Spec.Legacy || !s.Absent {
		return false
	}
	if l.Generation < own.Spec.Generation {
		return true
	}
	return l.Mode == unmanaged && (own.Spec.Generation == 0 || own.Spec.Generation == l.Generation)
}

// leave takes our entries out of containerd's host directory, then has the
// serving half forget its layout. The next pass finds the node as before the
// first layout.
func (a *Agent) leave(ctx context.Context, v *view, l layout.Layout, s *served, facts *containerd.Facts) {
	a.standing = standing{}
	v.retry = true
	if facts.Folder != "" && !a.putHosts(v, nil, facts) {
		return
	}
	if err := s.client.Forget(ctx, l.Generation); err != nil {
		v.trouble("%s", brief(err))
		return
	}
	v.trouble("on the way back to the legacy containerd format; pulls under way may end first")
}

// before is a node without a layout: nothing is written, and what is there of
// ours, from a serving half that lost its disk, goes only by the order.
func (a *Agent) before(v *view, facts *containerd.Facts) {
	if facts == nil {
		return
	}
	own := a.report.latest()
	s := a.serving.Load()
	if own != nil && own.Spec.Legacy && s != nil && s.status.Absent && !untouched(facts.Folder) {
		v.retry = !a.putHosts(v, nil, facts)
	}
	v.status.Legacy = untouched(facts.Folder)
	a.files.watchHosts(nil)
	a.applied, a.healed = nil, healed{}
}
