package platform

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
)

// TestPodsOfAWorkload: those that it selects, in its namespace, that still run.
func TestPodsOfAWorkload(t *testing.T) {
	t.Parallel()
	pod := func(namespace, name, app string, phase corev1.PodPhase) *excerpt.Pod {
		return excerpt.PodOf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": app, "name": name}}, Status: corev1.PodStatus{Phase: phase}})
	}
	ending := excerpt.PodOf(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ending", Labels: map[string]string{"app": "a"}, DeletionTimestamp: &metav1.Time{}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	})
	inv := &cluster.Inventory{Pods: []*excerpt.Pod{
		pod("ns", "its", "a", corev1.PodRunning), pod("ns", "other", "b", corev1.PodRunning), pod("elsewhere", "same", "a", corev1.PodRunning),
		pod("ns", "failed", "a", corev1.PodFailed), pod("ns", "done", "a", corev1.PodSucceeded), pod("ns", "canary", "a", corev1.PodRunning), ending,
	}}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}, MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "name", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"canary"}},
	}}
	pods := indexPods(inv).of(cluster.WorkloadOf(d))
	if len(pods) != 1 || pods[0].Name != "its" {
		t.Errorf("%d pods", len(pods))
	}
	if pods := indexPods(inv).of(cluster.WorkloadOf(&batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}})); len(pods) != 0 {
		t.Errorf("a CronJob makes %d pods of its own", len(pods))
	}
}
