package controller

import (
	"cmp"
	"context"
	"strings"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/platform"
	"github.com/d8-registry/registry/internal/control/pullsecret"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
)

// observe reads the cluster. Progress is measured against the stored document, so
// that nothing counts as done in the pass that asks for it.
func (r *Reconciler) observe(ctx context.Context, doc state.Document) (*state.View, platform.Progress, error) {
	v := &state.View{Doc: doc}
	var progress platform.Progress
	var err error
	if v.Snapshot, err = cluster.Take(ctx, r.cluster); err != nil {
		return nil, progress, err
	}
	v.TakeBack(r.cluster.Now())
	doc = v.Doc
	o := &v.Observed
	o.Published = state.Published(v.Layout)
	if err = r.specs.observe(ctx, r.cluster.Live, v); err != nil {
		return nil, progress, err
	}
	o.Now = r.cluster.Now()
	o.ProxyPublished = state.LayoutIn(v.OwnSecret(v1alpha1.SecretProxy), v1alpha1.KeyProxyLayout)
	o.Nodes = r.nodes.Observe(v.Snapshot, doc.SafeGeneration > 0, o.Now)
	o.Check, o.Compared = r.images.runner.Report(), r.images.runner.Compared()
	o.Probe = r.images.own
	names := v.KnownNames()
	r.cluster.Names.Set(names)
	o.Census = r.mover.Census(v.Inventory, names, doc.Switch, r.images.own)
	r.own.ObserveProxy(ctx, v)
	r.own.stores.observe(ctx, v)
	progress = r.measure(v)
	others := r.others(v)
	o.Platform, v.Identity.Told = progress.Platform(doc, others), !others.Registry
	if problem := r.reports.problem; problem != "" && !o.Platform.Moved {
		o.Platform.Waiting = append(o.Platform.Waiting, strings.Split(problem, "\n")...)
	}
	return v, progress, r.observeLive(ctx, v, names)
}

// observeLive looks past the caches when the next step could take something away,
// but not too often: at all that refers to images, and then at the nodes. What the
// pass does after that, it does with these nodes.
func (r *Reconciler) observeLive(ctx context.Context, v *state.View, names []layout.Name) error {
	o := &v.Observed
	if !r.protocol.NeedsLive(v.Doc.State, *o) {
		return nil
	}
	wait, why := r.images.live.pause(v.Doc, o.Now)
	if wait > 0 && !r.protocol.AsksForLegacy(v.Doc.State, *o) {
		v.WakeIn(wait)
		o.Census.Problem = cmp.Or(o.Census.Problem, why)
		return nil
	}
	inv, err := r.cluster.TakeLive(ctx)
	if err != nil {
		return err
	}
	v.Close = inv
	o.Census = r.mover.Census(inv, names, v.Doc.Switch, r.images.own)
	v.Nodes, v.RegistryNodes = inv.Nodes, cluster.ByNode(inv.RegistryNodes)
	o.Nodes = r.nodes.Observe(v.Snapshot, v.Doc.SafeGeneration > 0, o.Now)
	if request := r.protocol.CheckRequest(v.Doc.State, *o); !o.Check.At.IsZero() && o.Check.Fingerprint == request.Fingerprint() {
		r.images.lastWord(ctx, v, request)
	}
	return nil
}

// measure is how far the platform is. The controller's own Deployment is added to
// what is skipped if we must not re-point it.
func (r *Reconciler) measure(v *state.View) platform.Progress {
	p := r.mover.Measure(v)
	if w, why := r.own.Skipped(v); w != nil {
		p.Skip(platform.Skipped{Workload: *w, Why: why})
	}
	return p
}

// others is what a switch waits for beside the platform's workloads.
func (r *Reconciler) others(v *state.View) platform.Others {
	return platform.Others{
		Registry: registryChanges(v),
		Own:      r.own.Progress(v),
		Address:  addressChange(v) != nil,
	}
}

// registryChanges reports whether a pull secret or deckhouse-registry must still be
// written.
func registryChanges(v *state.View) bool {
	return len(pullsecret.Changes(v)) > 0 || pullsecret.RegistryChange(v) != nil
}
