package component

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
)

// ApplyFirst makes all Secrets and Services, and the workloads marked First. It
// removes what is not wanted.
func (k *Keeper) ApplyFirst(ctx context.Context, v *state.View) error {
	for _, c := range k.list {
		// Others may come to stand behind a Service, before its own pods go.
		if err := k.applyService(ctx, v, c); err != nil {
			return err
		}
		if !c.Wanted(v.Doc) {
			if err := k.remove(ctx, v, c); err != nil {
				return err
			}
			continue
		}
		if err := k.applySecret(ctx, v, c); err != nil {
			return err
		}
		if !c.First || v.Doc.Desired.Own.IsZero() {
			continue
		}
		want, have := k.wanted(c, v), c.there(v.Snapshot)
		if have != nil {
			*want.Template = k.templateBeforeTurn(ctx, v, *want.Template, *have.Template)
		}
		if err := k.apply(ctx, want, have); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) apply(ctx context.Context, want cluster.Workload, have *cluster.Workload) error {
	if same(want, have) {
		return nil
	}
	return k.cluster.ApplyOwn(ctx, want.Object, want.Kind)
}

// Move moves own workloads to the wanted registry, under its real address. MayMove
// says whether the platform has ended its move: own workloads come after it.
// First come those that are not First, whose running pods are not restarted, then
// the First ones, then the controller. A workload that does not exist is made
// without waiting.
func (k *Keeper) Move(ctx context.Context, v *state.View, mayMove bool) error {
	if v.Doc.Desired.Own.IsZero() {
		return nil
	}
	for _, c := range k.list {
		if !c.First && c.Wanted(v.Doc) {
			if err := k.moveOne(ctx, v, c, mayMove); err != nil {
				return err
			}
		}
	}
	if !mayMove {
		return nil
	}
	for _, c := range k.list {
		have := c.there(v.Snapshot)
		if !c.First || !c.Wanted(v.Doc) || have == nil || onBase(v, excerpt.Images(&have.Template.Spec)) {
			continue
		}
		want := k.wanted(c, v)
		*want.Template = k.ownTemplate(ctx, v, *want.Template, *have.Template)
		return k.cluster.ApplyOwn(ctx, want.Object, want.Kind)
	}
	return k.moveController(ctx, v)
}

func (k *Keeper) moveOne(ctx context.Context, v *state.View, c Component, mayMove bool) error {
	want, have := k.wanted(c, v), c.there(v.Snapshot)
	if have != nil {
		if !mayMove && !undoes(v, *want.Template, *have.Template) {
			return nil
		}
		*want.Template = k.ownTemplate(ctx, v, *want.Template, *have.Template)
	}
	return k.apply(ctx, want, have)
}

func (k *Keeper) applySecret(ctx context.Context, v *state.View, c Component) error {
	// The Secret gets the published layout, not the desired one: what guards the
	// layout of agents then guards this one too.
	if c.Secret.Name == "" || v.Layout == nil {
		return nil
	}
	data, err := c.Secret.Data(v)
	if err != nil {
		return err
	}
	return k.cluster.PutData(ctx, v.Snapshot, c.Secret.Name, c.Secret.Type, data)
}

// applyService makes a ClusterIP, which stays the same when pods restart.
func (k *Keeper) applyService(ctx context.Context, v *state.View, c Component) error {
	selector := c.selector(v.Doc)
	if selector == nil {
		return nil
	}
	have := v.OwnService(c.Service.Name)
	if have != nil && maps.Equal(have.Spec.Selector, selector) && cluster.Contains(have.Labels, cluster.Ours()) {
		return nil
	}
	port := corev1.ServicePort{Name: c.Service.PortName, Port: c.Service.Port, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString(c.Service.PortName)}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: c.Service.Name, Labels: cluster.Ours()},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: selector, Ports: []corev1.ServicePort{port}},
	}
	return k.cluster.ApplyOwn(ctx, service, corev1.SchemeGroupVersion.WithKind("Service"))
}

// remove deletes a component: the workload, then its Service, then its Secret.
func (k *Keeper) remove(ctx context.Context, v *state.View, c Component) error {
	var objects []client.Object
	if have := c.there(v.Snapshot); have != nil {
		objects = append(objects, have.Object)
	}
	if service := v.OwnService(c.Service.Name); service != nil && c.selector(v.Doc) == nil {
		objects = append(objects, service)
	}
	if secret := v.OwnSecret(c.Secret.Name); secret != nil {
		objects = append(objects, secret)
	}
	for _, object := range objects {
		if !cluster.IsOurs(object) || object.GetDeletionTimestamp() != nil {
			continue
		}
		if _, err := k.cluster.DeleteSeen(ctx, object, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
			return fmt.Errorf("delete %s: %w", cluster.Key(object), err)
		}
	}
	return nil
}
