package cluster

import (
	"encoding/json"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Key is namespace and name with a slash, or the name alone.
func Key(o metav1.Object) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}

// Ours are the labels of every object that the controller makes.
func Ours() map[string]string {
	return map[string]string{
		v1alpha1.LabelManagedBy: v1alpha1.ManagedBy,
		v1alpha1.LabelHeritage:  v1alpha1.Heritage,
		"module":                "registry",
	}
}

// IsOurs reports whether an object is one that the controller makes.
func IsOurs(o metav1.Object) bool {
	return o.GetLabels()[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy
}

// SetLabels adds labels. The map that was there is not changed: it may belong
// to a cache.
func SetLabels(o metav1.Object, labels map[string]string) {
	have := maps.Clone(o.GetLabels())
	if have == nil {
		have = map[string]string{}
	}
	maps.Copy(have, labels)
	o.SetLabels(have)
}

// SetAnnotation sets one annotation. The map that was there is not changed.
func SetAnnotation(o metav1.Object, name, value string) {
	have := maps.Clone(o.GetAnnotations())
	if have == nil {
		have = map[string]string{}
	}
	have[name] = value
	o.SetAnnotations(have)
}

// SameData reports whether two Secrets hold the same.
func SameData(a, b map[string][]byte) bool {
	return maps.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
}

// Contains reports whether have has all that want has.
func Contains(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// MustJSON encodes what cannot fail: maps of strings, raw JSON, and objects of
// Kubernetes.
func MustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
