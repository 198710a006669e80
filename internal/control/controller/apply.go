package controller

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// apply makes the cluster look like the document that was just stored. The
// order is the safety argument: a pull secret before the template that needs
// it, the routes before the names, our own workloads after all others.
func (r *Reconciler) apply(ctx context.Context, s *sight, doc document) error {
	r.upgrades.missing = "" // is asked again by who needs it
	// No step of a switch waits for what is Helm's.
	aside := r.applyChart(ctx, s, doc)
	for _, step := range []func(context.Context, *sight, document) error{
		r.applyIdentity,
		r.applyPullSecrets,
		r.applyBootstrap,
		r.applyLayout,
		r.applyRegistryNodes,
		r.applyNodes,
		r.applyProxy,
		r.rehearse,
		r.applyRegistry,
		r.repoint,
		r.applyOwn,
		r.replaceStranded,
		r.upgradeAgents,
		r.applyAddress,
	} {
		if err := step(ctx, s, doc); err != nil {
			return errors.Join(err, aside, s.withheld())
		}
	}
	return errors.Join(aside, s.withheld())
}

// applyLayout publishes what nodes and proxies route by. The write is
// conditional on what this pass saw, and MayPublish is the last word on
// whether it may lower or shrink anything: whatever went wrong before, a layout
// that nodes need is not replaced by a smaller one.
func (r *Reconciler) applyLayout(ctx context.Context, s *sight, doc document) error {
	want := doc.Desired.Layout
	if want.Generation == 0 || doc.Desired.Legacy {
		return nil
	}
	data, err := layout.Encode(want)
	if err != nil {
		return fmt.Errorf("encode layout of generation %d: %w", want.Generation, err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretLayout}, Type: corev1.SecretTypeOpaque}
	if s.layoutSecret != nil {
		secret = s.layoutSecret.DeepCopy()
	}
	if string(secret.Data[v1alpha1.KeyLayout]) == string(data) && contains(secret.Labels, ours()) {
		return nil
	}
	if err := doc.MayPublish(switchover.Agents, s.world.Published); err != nil {
		return fmt.Errorf("publish layout of generation %d: %w", want.Generation, err)
	}
	setLabels(secret, ours())
	// It outlives the chart: nodes that know us need it until they are told
	// otherwise.
	setAnnotation(secret, "helm.sh/resource-policy", "keep")
	secret.Data = map[string][]byte{v1alpha1.KeyLayout: data}
	if err := r.put(ctx, secret); err != nil {
		return fmt.Errorf("publish layout of generation %d: %w", want.Generation, err)
	}
	s.layoutSecret = secret
	r.log.Info("layout published", "generation", want.Generation, "mode", want.Mode, "target", want.Target.String())
	return nil
}

// applyAddress publishes what image references should start with, for those
// who write templates themselves.
func (r *Reconciler) applyAddress(ctx context.Context, s *sight, doc document) error {
	want := s.addressChange(doc)
	if want == nil {
		return nil
	}
	var err error
	if want.ResourceVersion == "" {
		err = r.client.Create(ctx, want)
	} else {
		err = r.client.Update(ctx, want)
	}
	if err != nil {
		return fmt.Errorf("publish image address: %w", err)
	}
	return nil
}

// addressChange is ConfigMap registry-image-address as it should be; nil when
// it is so.
func (s *sight) addressChange(doc document) *corev1.ConfigMap {
	if doc.Desired.Workloads == (layout.Name{}) {
		return nil
	}
	want := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.ConfigMapImageAddress}}
	if s.address != nil {
		want = s.address.DeepCopy()
	}
	data := map[string]string{"base": doc.Desired.Workloads.String(), "mode": string(doc.Target.Mode)}
	if s.address != nil && len(s.address.Data) == len(data) && contains(s.address.Data, data) && contains(s.address.Labels, ours()) {
		return nil
	}
	setLabels(want, ours())
	want.Data = data
	return want
}
