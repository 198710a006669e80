package state

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// roomForRest is for what is beside a layout in its Secret: certificate and users of the
// proxy, and the address of the proxy that nodes will be told.
const roomForRest = 32 << 10

// Published reads the agents' layout back as it lies in the cluster.
func Published(secret *corev1.Secret) switchover.Published {
	return LayoutIn(secret, v1alpha1.KeyLayout)
}

// LayoutIn reads a layout back from one key of a Secret, which may be nil. What is
// provided is left out: a state does not know it either.
func LayoutIn(secret *corev1.Secret, key string) switchover.Published {
	if secret == nil {
		return switchover.Published{}
	}
	l, err := layout.Decode(secret.Data[key])
	if err != nil {
		return switchover.Published{Found: true, Problem: err.Error()}
	}
	return switchover.Published{Found: true, Layout: l.Lasting()}
}

// ProxyLayout is what the in-cluster proxy may be given to route by. If it is the
// agents' layout, that is what was published and not what is desired: so the
// guard of Publish is the proxy's too. A layout of its own has the same guard.
func ProxyLayout(v *View) ([]byte, error) {
	own := v.Doc.Desired.ProxyLayout
	if own.IsZero() {
		return v.Layout.Data[v1alpha1.KeyLayout], nil
	}
	if err := v.Doc.MayPublish(switchover.InClusterProxy, v.Observed.ProxyPublished); err != nil {
		return nil, fmt.Errorf("publish the proxy's layout of generation %d: %w", own.Generation, err)
	}
	return v.encodeLayout(own)
}

// StoreLayout is what stores of nodes may be given to route by, with the guard of Publish.
func StoreLayout(v *View) ([]byte, error) {
	own := v.Doc.Desired.StoreLayout
	if err := v.Doc.MayPublish(switchover.NodeServices, v.Observed.StorePublished); err != nil {
		return nil, fmt.Errorf("publish the stores' layout of generation %d: %w", own.Generation, err)
	}
	return v.encodeLayout(own)
}

// Publish writes what agents route by. The write is conditional on what this pass
// saw, and MayPublish is the last word on whether it may lower or shrink anything:
// whatever went wrong before, a layout that nodes need is not replaced by a smaller
// one.
func (s *Store) Publish(ctx context.Context, v *View) error {
	want := v.Doc.Desired.Layout
	if want.Generation == 0 || v.Doc.Desired.Legacy {
		return nil
	}
	data, err := v.encodeLayout(want)
	if err != nil {
		return fmt.Errorf("encode layout of generation %d: %w", want.Generation, err)
	}
	secret := cluster.SecretToWrite(v.Layout, v1alpha1.SecretLayout, corev1.SecretTypeOpaque)
	if string(secret.Data[v1alpha1.KeyLayout]) == string(data) && cluster.Contains(secret.Labels, cluster.Ours()) {
		return nil
	}
	if err := v.Doc.MayPublish(switchover.Agents, v.Observed.Published); err != nil {
		return fmt.Errorf("publish layout of generation %d: %w", want.Generation, err)
	}
	cluster.SetLabels(secret, cluster.Ours())
	// It outlives the chart: nodes that know us need it until they are told
	// otherwise.
	cluster.SetAnnotation(secret, "helm.sh/resource-policy", "keep")
	secret.Data = map[string][]byte{v1alpha1.KeyLayout: data}
	if err := s.cluster.Put(ctx, secret); err != nil {
		return fmt.Errorf("publish layout of generation %d: %w", want.Generation, err)
	}
	v.Layout = secret
	s.cluster.Log.Info("layout published", "generation", want.Generation, "mode", want.Mode, "target", want.Target.String())
	return nil
}

// encodeLayout writes a layout for those who read it. If schema 1 cannot hold it, it is
// written in the one that can: who cannot read that keeps what it has and says so, and
// the others go on.
func (v *View) encodeLayout(l layout.Layout) ([]byte, error) {
	l = v.Doc.filled(l)
	for _, u := range l.Upstreams() {
		if u.Provided && u.Credentials.IsZero() {
			// Nodes may have some, and would lose them.
			return nil, Public{fmt.Errorf("there are no credentials of %s", u)}
		}
	}
	data, err := layout.EncodeFor(l, v.Reads)
	if err == nil && len(data)+roomForRest > corev1.MaxSecretSize && v.Reads < layout.Newest {
		data, err = layout.EncodeFor(l, layout.Newest)
	}
	return data, err //nolint:wrapcheck // the callers say which layout
}
