package uninstall

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
)

// removeShared removes what the module made because it was missing, unless others
// use it by now. See ADR 10.
func (u *uninstaller) removeShared(ctx context.Context) error {
	if err := u.removePullSecrets(ctx); err != nil {
		return err
	}
	// Module registry is gone already.
	for _, crd := range []string{"modules.deckhouse.io", "moduleconfigs.deckhouse.io", "nodegroupconfigurations.deckhouse.io"} {
		if err := u.removeCRD(ctx, crd); err != nil {
			return err
		}
	}
	return nil
}

// removeCRD removes a CRD that the chart made, unless there are objects of its
// kind. A ModuleConfig that only says which registry to use does not count.
func (u *uninstaller) removeCRD(ctx context.Context, name string) error {
	var crd apiextensionsv1.CustomResourceDefinition
	err := u.client.Get(ctx, client.ObjectKey{Name: name}, &crd)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read CRD %s: %w", name, err)
	}
	if !byChart(&crd) || len(crd.Spec.Versions) == 0 {
		u.say("CRD %s stays: it was not made by the chart.", name)
		return nil
	}
	resource := schema.GroupVersionResource{Group: crd.Spec.Group, Version: crd.Spec.Versions[0].Name, Resource: crd.Spec.Names.Plural}
	objects, err := u.dynamic.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list %s: %w", name, err)
	}
	var used []string
	for i := range objects.Items {
		if o := &objects.Items[i]; !onlyRegistrySettings(o) {
			used = append(used, o.GetName())
		}
	}
	if len(used) > 0 {
		u.say("CRD %s stays: there are objects of it: %s.", name, listed(used))
		return nil
	}
	if err := u.delete(ctx, &crd); err != nil {
		return err
	}
	u.say("CRD %s is removed.", name)
	return nil
}

// onlyRegistrySettings reports whether an object is ModuleConfig deckhouse with
// the settings of the registry and no others.
func onlyRegistrySettings(o *unstructured.Unstructured) bool {
	settings, _, err := unstructured.NestedMap(o.Object, "spec", "settings")
	delete(settings, "registry")
	return err == nil && len(settings) == 0 && o.GetKind() == "ModuleConfig" && o.GetName() == v1alpha1.ModuleConfigName
}

// removePullSecrets removes Secret deckhouse-registry if the chart made it, and
// its copies in other namespaces if the controller made them. A copy that
// something still pulls with stays.
func (u *uninstaller) removePullSecrets(ctx context.Context) error {
	var secrets corev1.SecretList
	only := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", v1alpha1.SecretRegistry)}
	if err := u.client.List(ctx, &secrets, only); err != nil {
		return fmt.Errorf("list Secrets %s: %w", v1alpha1.SecretRegistry, err)
	}
	var users map[string][]string
	for i := range secrets.Items {
		secret := &secrets.Items[i]
		if !cluster.IsOurs(secret) && !byChart(secret) {
			if secret.Namespace == v1alpha1.Namespace {
				u.say("Secret %s stays: it was not made by the module.", cluster.Key(secret))
			}
			continue
		}
		if users == nil {
			var err error
			if users, err = u.pullSecretUsers(ctx); err != nil {
				return err
			}
		}
		if by := users[secret.Namespace]; len(by) > 0 {
			u.say("Secret %s stays: it is the image pull secret of %s.", cluster.Key(secret), listed(by))
			continue
		}
		if err := u.delete(ctx, secret); err != nil {
			return err
		}
	}
	return nil
}

// listed joins names, at most five of them, and sorts them in place.
func listed(names []string) string {
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:5], ", "), len(names)-5)
	}
	return strings.Join(names, ", ")
}
