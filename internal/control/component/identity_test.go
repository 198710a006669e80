package component

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/excerpt"
)

// TestUsesAreKeptByPod: the clock of one node hides no use that another one tells of.
func TestUsesAreKeptByPod(t *testing.T) {
	t.Parallel()
	got := map[string]map[string]string{}
	for uid, told := range map[types.UID]string{"a": "ro 2099 10.0.0.1,node 2026 10.0.0.2", "b": "ro 2026 10.0.0.3", "c": "", "d": "?"} {
		addUses(got, excerpt.PodOf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.Namespace, UID: uid, Annotations: map[string]string{v1alpha1.AnnotationOldUse: told},
		}}))
	}
	want := map[string]map[string]string{"ro": {"a": "2099 10.0.0.1", "b": "2026 10.0.0.3"}, "node": {"a": "2026 10.0.0.2"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}
