package cluster

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestWhatARolloutWaitsFor: the first thing that is missing is named.
func TestWhatARolloutWaitsFor(t *testing.T) {
	t.Parallel()
	need := Need{Updated: 3, Outdated: 1, Available: 2}
	for _, c := range []struct {
		name string
		w    Workload
		want Rollout
	}{
		{"all is there", Workload{Pods: PodCounts{Updated: 3, Outdated: 1, Available: 2}}, RolloutDone},
		{"not observed, whatever else", Workload{Unobserved: true, Pods: PodCounts{Updated: 3, Available: 2}}, RolloutUnobserved},
		{"not updated", Workload{Pods: PodCounts{Updated: 2, Outdated: 2, Available: 1}}, RolloutNotUpdated},
		{"one outdated too many", Workload{Pods: PodCounts{Updated: 3, Outdated: 2, Available: 1}}, RolloutOutdated},
		{"not available", Workload{Pods: PodCounts{Updated: 3, Available: 1}}, RolloutNotAvailable},
		{"refused and short", Workload{Pods: PodCounts{Updated: 2, Available: 2, Refused: "quota"}}, RolloutRefused},
		{"refused and not available", Workload{Pods: PodCounts{Updated: 3, Available: 1, Refused: "quota"}}, RolloutRefused},
		{"refused once, and enough all the same", Workload{Pods: PodCounts{Updated: 3, Available: 2, Refused: "quota"}}, RolloutDone},
	} {
		if got := c.w.RolloutOf(need); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestEveryKindIsTold: each kind of workload says the same things in its own
// fields.
func TestEveryKindIsTold(t *testing.T) {
	t.Parallel()
	three, two := int32(3), int32(2)
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "r.io/a:1"}}}}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}
	meta := metav1.ObjectMeta{Namespace: "ns", Name: "a", Generation: 2}
	ending := *meta.DeepCopy()
	ending.DeletionTimestamp = new(metav1.Now())
	for _, c := range []struct {
		object     client.Object
		want       string
		pods       PodCounts
		unobserved bool
		only       bool
	}{
		{&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: &three, Selector: selector, Template: template},
			Status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 2, AvailableReplicas: 1}},
			"Deployment ns/a", PodCounts{Wanted: 3, Rolls: 3, Updated: 2, Outdated: 2, Available: 1}, false, false},
		{&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Paused: true, Template: template}},
			"Deployment ns/a", PodCounts{Wanted: 1, Rolls: 1}, true, true},
		{&appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &three, Selector: selector, Template: template,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &two}}},
			Status: appsv1.StatefulSetStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 1, AvailableReplicas: 3}},
			"StatefulSet ns/a", PodCounts{Wanted: 3, Rolls: 1, Updated: 1, Outdated: 2, Available: 3}, false, false},
		{&appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Template: template,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}}},
			"StatefulSet ns/a", PodCounts{Wanted: 1, Rolls: 1}, true, true},
		{&appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template},
			Status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 5, UpdatedNumberScheduled: 2, NumberAvailable: 4}},
			"DaemonSet ns/a", PodCounts{Wanted: 5, Rolls: 5, Updated: 2, Outdated: 3, Available: 4}, false, false},
		{&appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: template,
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}}},
			"DaemonSet ns/a", PodCounts{}, true, true},
		{&appsv1.DaemonSet{ObjectMeta: ending, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}},
			"DaemonSet ns/a", PodCounts{}, false, false},
		{&batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}},
			"CronJob ns/a", PodCounts{}, false, true},
	} {
		w := WorkloadOf(c.object)
		if w.String() != c.want || w.Pods != c.pods || w.Unobserved != c.unobserved || w.TemplateOnly != c.only {
			t.Errorf("%s: %+v, unobserved %t, template only %t", w, w.Pods, w.Unobserved, w.TemplateOnly)
		}
		if images, ok := imagesOf(c.object); !ok || len(images) != 1 || images[0] != "r.io/a:1" {
			t.Errorf("%s: its images are %v", w, images)
		}
	}
	if _, ok := imagesOf(&corev1.Secret{}); ok {
		t.Error("a Secret has images")
	}
}
