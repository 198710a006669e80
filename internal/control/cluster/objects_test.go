package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestMapsOfACacheAreNotChanged: objects are shared with a cache.
func TestMapsOfACacheAreNotChanged(t *testing.T) {
	t.Parallel()
	labels, annotations := map[string]string{"a": "1"}, map[string]string{"b": "1"}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}}
	SetLabels(pod, map[string]string{"c": "2"})
	SetAnnotation(pod, "d", "2")
	if len(labels) != 1 || len(annotations) != 1 || pod.Labels["c"] != "2" || pod.Annotations["d"] != "2" || pod.Labels["a"] != "1" {
		t.Errorf("labels %v and %v, annotations %v and %v", labels, pod.Labels, annotations, pod.Annotations)
	}
}
