package excerpt

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// reappliers are field managers that put back what we change, for ever. Users
// are told of them; we do not write against them.
var reappliers = []string{"kustomize-controller", "helm-controller", "argocd"} //nolint:gochecknoglobals // a constant list

// IsReapplier reports whether a field manager puts back what we change, for
// ever.
func IsReapplier(manager string) bool {
	return slices.ContainsFunc(reappliers, func(known string) bool { return strings.HasPrefix(manager, known) })
}

// IsIgnored reports whether the operator says to ignore what an object refers to.
func IsIgnored(o metav1.Object) bool {
	return o.GetAnnotations()[v1alpha1.AnnotationIgnore] == "true"
}
