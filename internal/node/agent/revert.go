package agent

import (
	"context"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/configchange"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/report"
)

// revertOrdered reports whether the node is to go back to the legacy containerd
// format. The order alone is not enough. Nothing may be published, and the last
// good layout must be one after which that is allowed: one without the fixed
// address, or an older one, which this node kept while it was away.
func revertOrdered(own *registryv1alpha1.RegistryNode, l layout.Layout, s handoff.Status) bool {
	if own == nil || !own.Spec.Legacy || !s.Absent {
		return false
	}
	if l.Generation < own.Spec.Generation {
		return true
	}
	return l.WithoutFixedAddress() && (own.Spec.Generation == 0 || own.Spec.Generation == l.Generation)
}

// revert makes the node what it was before the first layout. Then the serving
// half forgets its layout too.
func (a *Agent) revert(ctx context.Context, r *report.Report, l layout.Layout, s *served, facts *containerd.Facts) {
	r.Disprove()
	r.Retry = true
	if !a.takeOut(ctx, r, s, facts) {
		return
	}
	if err := s.client.Forget(ctx, l.Generation); err != nil {
		r.Problemf("%s", report.Brief(err))
		return
	}
	r.Problemf("on the way back to the legacy containerd format; pulls under way may end first")
}

// takeOut takes out what is ours, and reports whether it is gone. containerd's
// main file is first, while the directory that it names is still there.
func (a *Agent) takeOut(ctx context.Context, r *report.Report, s *served, facts *containerd.Facts) bool {
	return a.change.Converge(ctx, r, configchange.Task{Facts: facts, Revert: true}) &&
		a.hosts.Revert(ctx, r, s.client, facts)
}

// withoutLayout is the pass of a node that has no layout. Nothing of ours is
// written. If the disk was lost, our files may be there without a layout. They are
// removed only by order.
func (a *Agent) withoutLayout(ctx context.Context, r *report.Report, s *served, facts *containerd.Facts) {
	settled := false // no change of containerd's main file is under way
	if r.Own != nil && r.Own.Spec.Legacy && s.status.Absent && !a.untouched(facts) {
		settled = a.takeOut(ctx, r, s, facts)
		r.Retry = !settled
	} else {
		settled = a.change.Converge(ctx, r, configchange.Task{Facts: facts})
	}
	r.Status.Legacy = a.untouched(facts)
	a.hosts.Rest()
	// The journal of a change that was cut off is in the folder that a cleanup
	// clears, and where the store is: that waits.
	if leaveOrdered(r.Own) && settled && r.Status.Legacy && s.status.Absent && r.Status.Store == nil {
		a.cleanup.run(ctx, r)
	}
}

// untouched reports whether nothing of ours is left on the node.
func (a *Agent) untouched(facts *containerd.Facts) bool {
	if !a.hosts.Untouched(facts) {
		return false
	}
	edited, err := a.change.Edited()
	return err == nil && !edited
}
