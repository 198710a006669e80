package controller

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/platform"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
)

// apply makes the cluster look like the document that was just stored. The order
// is the safety argument: a pull secret comes before the template that needs it,
// routes before names, own workloads after all others.
func (r *Reconciler) apply(ctx context.Context, v *state.View) error {
	r.own.AskAgain()
	// An error here must not stop a switch. Nor must what concerns one namespace or one
	// node alone: these are in the view.
	chartErr := r.own.ApplyChart(ctx, v)
	var progress platform.Progress // against the document that was just stored
	for _, step := range []func(context.Context, *state.View) error{
		r.store.ApplyIdentity,
		r.secrets.Apply,
		r.secrets.ApplyBootstrap,
		r.store.Publish,
		r.nodes.ApplyRegistryNodes,
		r.nodes.ApplyNodes,
		r.own.stores.apply,
		r.own.ApplyFirst,
		func(ctx context.Context, v *state.View) error {
			progress = r.mover.Measure(v)
			return r.mover.DryRun(ctx, v, progress)
		},
		r.secrets.ApplyRegistry,
		func(ctx context.Context, v *state.View) error { return r.mover.Repoint(ctx, v, progress) },
		func(ctx context.Context, v *state.View) error { return r.moveOwn(ctx, v, progress) },
		r.own.ReplaceStuck,
		r.own.UpgradeAgents,
		r.applyAddress,
	} {
		if err := step(ctx, v); err != nil {
			return errors.Join(err, chartErr, v.BlockedErr(), v.RefusedErr())
		}
	}
	return errors.Join(chartErr, v.BlockedErr(), v.RefusedErr())
}

// moveOwn moves our own workloads after the platform's. What has just been begun is
// not idle in the progress either.
func (r *Reconciler) moveOwn(ctx context.Context, v *state.View, progress platform.Progress) error {
	// Without a layout there is no name that nodes have to know first.
	mayBegin := v.Doc.Desired.Repoint || v.Doc.Desired.Layout.IsZero()
	return r.own.Move(ctx, v, mayBegin && progress.Idle() && !registryChanges(v))
}

// applyAddress publishes, for users' templates, what images should start with.
func (r *Reconciler) applyAddress(ctx context.Context, v *state.View) error {
	want := addressChange(v)
	if want == nil {
		return nil
	}
	if err := r.cluster.Put(ctx, want); err != nil {
		return fmt.Errorf("publish image address: %w", err)
	}
	return nil
}

// addressChange is ConfigMap registry-image-address as it should be; nil when
// nothing is to be written.
func addressChange(v *state.View) *corev1.ConfigMap {
	if v.Doc.Desired.Workloads == (layout.Name{}) {
		return nil
	}
	have := v.Address
	want := &corev1.ConfigMap{ObjectMeta: cluster.HereMeta(v1alpha1.ConfigMapImageAddress)}
	if have != nil {
		want = have.DeepCopy()
	}
	data := map[string]string{"base": v.Doc.Desired.Workloads.String(), "mode": string(v.Doc.Target.Mode)}
	if have != nil && len(have.Data) == len(data) && cluster.Contains(have.Data, data) && cluster.Contains(have.Labels, cluster.Ours()) {
		return nil
	}
	cluster.SetLabels(want, cluster.Ours())
	want.Data = data
	return want
}
