package uninstall

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
)

// Own are the objects that the controller makes for itself. Agents and state are
// not among them: they have steps of their own.
func Own() []client.Object {
	objects := []client.Object{
		&appsv1.Deployment{ObjectMeta: cluster.HereMeta(v1alpha1.DeploymentProxy)},
		&corev1.Service{ObjectMeta: cluster.HereMeta(v1alpha1.ServiceRegistry)},
		&corev1.ConfigMap{ObjectMeta: cluster.HereMeta(v1alpha1.ConfigMapImageAddress)},
		&deckhousev1alpha1.Module{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleName}},
	}
	for _, name := range v1alpha1.DaemonSetsOfStores() { // of nodes that were not reached when stores were stopped
		objects = append(objects, &appsv1.DaemonSet{ObjectMeta: cluster.HereMeta(name)})
	}
	for _, name := range []string{v1alpha1.SecretProxy, v1alpha1.SecretPKI, state.UserSecretPrefix + state.UserClient, state.UserSecretPrefix + state.UserNode, v1alpha1.SecretBootstrap, v1alpha1.SecretStore} {
		objects = append(objects, &corev1.Secret{ObjectMeta: cluster.HereMeta(name)})
	}
	return objects
}

// removeOwn removes them, the RegistryNodes and the controller's lease.
func (u *uninstaller) removeOwn(ctx context.Context) error {
	for _, o := range Own() {
		if err := u.removeOurs(ctx, o); err != nil {
			return err
		}
	}
	if err := client.IgnoreNotFound(u.client.DeleteAllOf(ctx, &v1alpha1.RegistryNode{})); err != nil && !meta.IsNoMatchError(err) {
		return fmt.Errorf("delete RegistryNodes: %w", err)
	}
	// A lease has no label, but only the controller takes one of this name.
	lease := &coordinationv1.Lease{ObjectMeta: cluster.HereMeta(v1alpha1.DeploymentController)}
	if err := client.IgnoreNotFound(u.client.Delete(ctx, lease)); err != nil {
		return fmt.Errorf("delete the controller's lease: %w", err)
	}
	u.say("What the controller made is removed.")
	return nil
}

// removeState comes last: a run that was cut off before needs the state.
func (u *uninstaller) removeState(ctx context.Context) error {
	return u.removeOurs(ctx, &corev1.Secret{ObjectMeta: cluster.HereMeta(v1alpha1.SecretState)})
}

// removeOurs deletes an object, given by kind and name, if it is there and the
// controller's.
func (u *uninstaller) removeOurs(ctx context.Context, o client.Object) error {
	err := u.client.Get(ctx, client.ObjectKeyFromObject(o), o)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", cluster.Key(o), err)
	}
	if !cluster.IsOurs(o) {
		u.say("%s stays: it is not the module's.", u.describe(o))
		return nil
	}
	return u.delete(ctx, o)
}

// byChart reports whether the chart made an object because it was missing.
func byChart(o client.Object) bool {
	return o.GetAnnotations()[v1alpha1.AnnotationMadeBy] == v1alpha1.MadeByChart
}

// describe is kind, namespace and name: "Pod d8-system/registry-agent-x7k2p".
func (u *uninstaller) describe(o client.Object) string {
	kind, err := apiutil.GVKForObject(o, u.client.Scheme())
	if err != nil {
		return "Object " + cluster.Key(o)
	}
	return kind.Kind + " " + cluster.Key(o)
}
