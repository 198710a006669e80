package cluster

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Selection says which workloads are whose. What is the platform's is told by
// namespaces: a tenant may label all that is in theirs, but not the namespace.
type Selection struct {
	// Platform selects the platform's namespaces. Namespaces are more of them, by
	// name. d8-system always is one.
	Platform   labels.Selector
	Namespaces []string
	// Workloads makes a workload with the platform's label the platform's in any
	// namespace. Whoever may make a Deployment then joins the rollout.
	Workloads bool
	// Own are the module's own workloads in d8-system, as "Deployment/name".
	Own []string
}

// IsPlatforms reports whether a namespace is the platform's. Its name alone says
// nothing: d8-* and kube-* are reserved on some clusters only. A namespace that is
// not there is nobody's, whatever the selector says of one without labels.
func (inv *Inventory) IsPlatforms(namespace string) bool {
	if namespace == v1alpha1.Namespace || slices.Contains(inv.Whose.Namespaces, namespace) {
		return true
	}
	have, known := inv.Namespaces[namespace]
	return known && inv.Whose.Platform != nil && inv.Whose.Platform.Matches(have)
}

// IsTenants reports whether a namespace may be a tenant's, so that nothing in it may
// hold a switch up. kube-system is no tenant's on any cluster: whoever writes there
// has all rights. So what runs there counts, even where nobody says that it is the
// platform's; it is not moved, and gets no pull secret.
func (inv *Inventory) IsTenants(namespace string) bool {
	return namespace != metav1.NamespaceSystem && !inv.IsPlatforms(namespace)
}

// selects reports whether a workload is the platform's by its own label.
func (s Selection) selects(o metav1.Object) bool {
	return s.Workloads && s.Platform != nil && s.Platform.Matches(labels.Set(o.GetLabels()))
}
