package cluster

import (
	"encoding/json"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Key is namespace and name with a slash, or the name alone.
func Key(o metav1.Object) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}

// Here is the key of an object in d8-system.
func Here(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: v1alpha1.Namespace, Name: name}
}

// HereMeta is the metadata of a new object in d8-system.
func HereMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name}
}

// SecretToWrite is a copy of the Secret that is there, or a new one in d8-system.
func SecretToWrite(have *corev1.Secret, name string, kind corev1.SecretType) *corev1.Secret {
	if have != nil {
		return have.DeepCopy()
	}
	return &corev1.Secret{ObjectMeta: HereMeta(name), Type: kind}
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
	o.SetLabels(merged(o.GetLabels(), labels))
}

// SetAnnotation sets one annotation. The map that was there is not changed.
func SetAnnotation(o metav1.Object, name, value string) {
	o.SetAnnotations(merged(o.GetAnnotations(), map[string]string{name: value}))
}

func merged(have, more map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, have)
	maps.Copy(all, more)
	return all
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
