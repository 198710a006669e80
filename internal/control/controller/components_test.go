package controller

import (
	"reflect"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/uninstall"
)

// TestAnUninstallationTakesEveryComponent: uninstall does not know the list of
// components, and must remove all that it makes.
func TestAnUninstallationTakesEveryComponent(t *testing.T) {
	t.Parallel()
	removed := func(kind client.Object, name string) bool {
		return slices.ContainsFunc(uninstall.Own(), func(o client.Object) bool {
			return reflect.TypeOf(o) == reflect.TypeOf(kind) && o.GetNamespace() == v1alpha1.Namespace && o.GetName() == name
		})
	}
	for _, name := range v1alpha1.DaemonSetsOfStores() {
		if !removed(&appsv1.DaemonSet{}, name) || !slices.Contains(component.Names(nil), "DaemonSet/"+name) {
			t.Errorf("DaemonSet %s stays, or is not the module's own", name)
		}
	}
	for _, c := range component.List(component.Config{}) {
		kinds := map[string]client.Object{"Deployment": &appsv1.Deployment{}, "DaemonSet": &appsv1.DaemonSet{}}
		if c.Name != v1alpha1.DaemonSetAgent && !removed(kinds[c.Kind], c.Name) {
			t.Errorf("%s %s stays", c.Kind, c.Name)
		}
		if c.Secret.Name != "" && !removed(&corev1.Secret{}, c.Secret.Name) {
			t.Errorf("Secret %s stays", c.Secret.Name)
		}
		if c.Service.Name != "" && !removed(&corev1.Service{}, c.Service.Name) {
			t.Errorf("Service %s stays", c.Service.Name)
		}
	}
}
