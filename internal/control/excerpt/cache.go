package excerpt

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// CacheOptions keep in memory only what a pass looks at: a cluster's pods and
// Secrets are many, and most are nobody's business here.
func CacheOptions() cache.Options {
	here := map[string]cache.Config{v1alpha1.Namespace: {}}
	reducer := &Reducer{}
	return cache.Options{
		DefaultTransform: func(o any) (any, error) { return reducer.Reduce(o), nil },
		NewInformer:      reducer.informer,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{
				v1alpha1.Namespace:  {},
				cache.AllNamespaces: {FieldSelector: fields.OneTermEqualSelector("metadata.name", v1alpha1.SecretRegistry)},
			}},
			&corev1.Service{}:       {Namespaces: here},
			&corev1.ConfigMap{}:     {Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelRequiredImages: "true"})},
			&coordinationv1.Lease{}: {Namespaces: here, Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelApp: v1alpha1.DaemonSetAgent})},
		},
	}
}
