package platform

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/fleet"
)

func TestAWorkloadIsDoneWhenItIsAsAvailableAsBefore(t *testing.T) {
	t.Parallel()
	three := int32(3)
	for _, c := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   string
	}{
		{"all of it", func(*appsv1.Deployment) {}, ""},
		{"not observed", func(d *appsv1.Deployment) { d.Generation = 9 }, "not observed"},
		{"not updated", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 2 }, "2 of 3 Pods have been updated"},
		{"old ones run", func(d *appsv1.Deployment) { d.Status.Replicas = 4 }, "1 outdated"},
		{"not available", func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 2 }, "2 of 3 updated Pods are available"},
		{"as broken as before", func(d *appsv1.Deployment) {
			d.Annotations[v1alpha1.AnnotationAvailable] = "0"
			d.Status.AvailableReplicas, d.Status.Replicas = 0, 4
		}, ""},
		{"as half available as before", func(d *appsv1.Deployment) {
			d.Annotations[v1alpha1.AnnotationAvailable] = "2"
			d.Status.AvailableReplicas = 2
		}, ""},
		{"paused: template only", func(d *appsv1.Deployment) { d.Spec.Paused = true; d.Status.UpdatedReplicas = 0 }, ""},
	} {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", Annotations: map[string]string{v1alpha1.AnnotationAvailable: "3"}}, Spec: appsv1.DeploymentSpec{Replicas: &three}}
		d.Status = appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}
		c.change(d)
		s := fleet.Empty()
		if got, _ := mover().rolloutStatus(&sight{v: s}, cluster.WorkloadOf(d), 5); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: waits for %q, want %q", c.name, got, c.want)
		}
	}
}

// rolling is a DaemonSet in a rollout on that many nodes.
func rolling(before string, wanted, updated, available int32) (cluster.Workload, *appsv1.DaemonSet) {
	d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ds", UID: "1", Annotations: map[string]string{v1alpha1.AnnotationAvailable: before}}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "ds"}}
	d.Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: wanted, UpdatedNumberScheduled: updated, NumberAvailable: available}
	return cluster.WorkloadOf(d), d
}

// TestWhatGoesNoFurther: a rollout that makes no progress stops the others, unless
// the workload was broken before or has lost a node.
func TestWhatGoesNoFurther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                       string
		before                     string
		wanted, updated, available int32
		lost                       bool
		done, broken               time.Duration // when; 0: never
	}{
		{name: "healthy before", before: "4", wanted: 4, updated: 1, available: 4, broken: stuckAfter},
		{name: "and has lost a Pod", before: "4", wanted: 4, updated: 1, available: 3, broken: stuckAfter},
		{name: "one broken before", before: "3", wanted: 4, updated: 1, available: 3, done: BrokenBefore},
		{name: "more broken than before", before: "3", wanted: 4, updated: 1, available: 2, broken: stuckAfter},
		{name: "all broken before", before: "0", wanted: 4, updated: 1, available: 0, done: BrokenBefore},
		{name: "a node is lost", before: "4", wanted: 4, updated: 1, available: 3, lost: true, done: BrokenBefore},
	} {
		w, _ := rolling(c.before, c.wanted, c.updated, c.available)
		r, s := mover(), atNow()
		if c.lost {
			s.Observed.Nodes = []switchover.Node{{Name: "lost", NotReadyFor: time.Hour}}
			s.Inventory.Pods = fleet.Pods(corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", Labels: map[string]string{"app": "ds"}}, Spec: corev1.PodSpec{NodeName: "lost"}})
		}
		start := s.Observed.Now
		for _, at := range []time.Duration{0, BrokenBefore - 1, BrokenBefore, stuckAfter - 1, stuckAfter} {
			s.Observed.Now, s.Later = start.Add(at), 0
			why, broken := r.rolloutStatus(&sight{v: s}, w, 5)
			done := c.done > 0 && at >= c.done
			if (why == "") != done || broken != (c.broken > 0 && at >= c.broken) {
				t.Errorf("%s, after %v: %q, broken %t", c.name, at, why, broken)
			}
			if !done && !broken && s.Later == 0 {
				t.Errorf("%s, after %v: nobody looks again", c.name, at)
			}
		}
	}
}

// TestWhatIsLeftStaysLeft: also when it is measured again, in this pass or later.
func TestWhatIsLeftStaysLeft(t *testing.T) {
	t.Parallel()
	s, r := fleet.New("ds1:rolling"), mover()
	s.Inventory.DaemonSets[0].Annotations[v1alpha1.AnnotationAvailable] = "0"
	s.Inventory.DaemonSets[0].Status.UpdatedNumberScheduled = 0
	s.Observed.Now = time.Now()
	if p := r.Measure(s); len(p.underway) != 1 {
		t.Fatalf("%d under way", len(p.underway))
	}
	s.Observed.Now = s.Observed.Now.Add(BrokenBefore)
	for i := range 3 {
		if p := r.Measure(s); len(p.underway) != 0 {
			t.Errorf("look %d: %d under way", i, len(p.underway))
		}
	}
}

// TestOnlyNewGroundIsProgress: a Pod that comes and goes is no progress.
func TestOnlyNewGroundIsProgress(t *testing.T) {
	t.Parallel()
	r, s := mover(), atNow()
	for i, c := range []struct {
		updated, available int32
		still              time.Duration
	}{
		{1, 3, 0},
		{1, 4, 0},
		{1, 3, time.Minute},
		{1, 4, 2 * time.Minute},
		{2, 3, 0},
		{1, 4, time.Minute},
	} {
		w, _ := rolling("4", 4, c.updated, c.available)
		if got := r.withoutProgress(s, w, 5); got != c.still {
			t.Errorf("step %d: still for %v, want %v", i, got, c.still)
		}
		s.Observed.Now = s.Observed.Now.Add(time.Minute)
	}
	w, _ := rolling("4", 4, 1, 1)
	if got := r.withoutProgress(s, w, 6); got != 0 {
		t.Errorf("in the next switch it stands still for %v already", got)
	}
}

func TestAPartitionKeepsItsPods(t *testing.T) {
	t.Parallel()
	three := int32(3)
	for _, c := range []struct {
		partition, updated int32
		want               string
	}{
		{0, 3, ""},
		{0, 2, "2 of 3 Pods have been updated"},
		{2, 1, ""},
		{2, 0, "0 of 1 Pods have been updated"},
		{3, 0, ""},
		{9, 0, ""},
	} {
		set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "s", Annotations: map[string]string{v1alpha1.AnnotationAvailable: "3"}}}
		set.Spec.Replicas = &three
		set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &c.partition}
		set.Status = appsv1.StatefulSetStatus{Replicas: 3, UpdatedReplicas: c.updated, AvailableReplicas: 3}
		if got, _ := mover().rolloutStatus(&sight{v: fleet.Empty()}, cluster.WorkloadOf(set), 5); got != c.want {
			t.Errorf("partition %d, %d updated: %q, want %q", c.partition, c.updated, got, c.want)
		}
	}
}

// TestRefusedPodsAreNamed: a quota accepts the template but refuses its Pods.
func TestRefusedPodsAreNamed(t *testing.T) {
	t.Parallel()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", Annotations: map[string]string{v1alpha1.AnnotationAvailable: "1"}}}
	d.Status = appsv1.DeploymentStatus{Replicas: 1, AvailableReplicas: 1, Conditions: []appsv1.DeploymentCondition{{
		Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue,
		Message: `pods "d-5d9-x7k2p" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1`,
	}}}
	why, broken := mover().rolloutStatus(&sight{v: fleet.Empty()}, cluster.WorkloadOf(d), 5)
	if want := "its Pods are refused: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1"; why != want || !broken {
		t.Errorf("%q, broken %t, want %q", why, broken, want)
	}
}
