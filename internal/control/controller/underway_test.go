package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// rolling is a DaemonSet on its way, on that many nodes.
func rolling(before string, wanted, updated, available int32) (workload, *appsv1.DaemonSet) {
	d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ds", UID: "1", Annotations: map[string]string{v1alpha1.AnnotationAvailable: before}}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "ds"}}
	d.Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: wanted, UpdatedNumberScheduled: updated, NumberAvailable: available}
	return workload{Object: d, template: &d.Spec.Template, kind: appsv1.SchemeGroupVersion.WithKind("DaemonSet")}, d
}

// TestWhatGoesNoFurther: a rollout that stands still stops the others, unless
// it was broken before or has lost a node: that is not the switch's.
func TestWhatGoesNoFurther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                       string
		before                     string
		wanted, updated, available int32
		lost                       bool
		done, broken               time.Duration // when; 0: never
	}{
		{name: "healthy before", before: "4", wanted: 4, updated: 1, available: 4, broken: standsStill},
		{name: "and has lost a Pod", before: "4", wanted: 4, updated: 1, available: 3, broken: standsStill},
		{name: "one broken before", before: "3", wanted: 4, updated: 1, available: 3, done: brokenBefore},
		{name: "more broken than before", before: "3", wanted: 4, updated: 1, available: 2, broken: standsStill},
		{name: "all broken before", before: "0", wanted: 4, updated: 1, available: 0, done: brokenBefore},
		{name: "a node is lost", before: "4", wanted: 4, updated: 1, available: 3, lost: true, done: brokenBefore},
	} {
		w, _ := rolling(c.before, c.wanted, c.updated, c.available)
		r, s := bare(), &sight{inv: &inventory{}, world: switchover.Observed{Settings: switchover.DefaultSettings(), Now: time.Now()}}
		if c.lost {
			s.world.Nodes = []switchover.Node{{Name: "lost", NotReadyFor: time.Hour}}
			s.inv.pods = []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", Labels: map[string]string{"app": "ds"}}, Spec: corev1.PodSpec{NodeName: "lost"}}}
		}
		start := s.world.Now
		for _, at := range []time.Duration{0, brokenBefore - 1, brokenBefore, standsStill - 1, standsStill} {
			s.world.Now, s.later = start.Add(at), 0
			why, broken := r.waits(s, w, 5)
			done := c.done > 0 && at >= c.done
			if (why == "") != done || broken != (c.broken > 0 && at >= c.broken) {
				t.Errorf("%s, after %v: %q, broken %t", c.name, at, why, broken)
			}
			if !done && !broken && s.later == 0 {
				t.Errorf("%s, after %v: nobody looks again", c.name, at)
			}
		}
	}
}

// TestWhatIsLeftStaysLeft: it is measured more than once in a pass, and in many.
func TestWhatIsLeftStaysLeft(t *testing.T) {
	t.Parallel()
	s, r := fleet("ds1:rolling"), bare()
	s.inv.daemonSets[0].Annotations[v1alpha1.AnnotationAvailable] = "0"
	s.inv.daemonSets[0].Status.UpdatedNumberScheduled = 0
	s.world.Now = time.Now()
	if p := r.measure(s, moving()); len(p.underway) != 1 {
		t.Fatalf("%d under way", len(p.underway))
	}
	s.world.Now = s.world.Now.Add(brokenBefore)
	for i := range 3 {
		if p := r.measure(s, moving()); len(p.underway) != 0 {
			t.Errorf("look %d: %d under way", i, len(p.underway))
		}
	}
}

// TestOnlyNewGroundIsHeadway: a Pod that comes and goes is none.
func TestOnlyNewGroundIsHeadway(t *testing.T) {
	t.Parallel()
	r, s := bare(), &sight{inv: &inventory{}, world: switchover.Observed{Now: time.Now()}}
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
		if got := r.still(s, w, 5, countPods(w)); got != c.still {
			t.Errorf("step %d: still for %v, want %v", i, got, c.still)
		}
		s.world.Now = s.world.Now.Add(time.Minute)
	}
	w, _ := rolling("4", 4, 1, 1)
	if got := r.still(s, w, 6, countPods(w)); got != 0 {
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
		if got, _ := bare().waits(&sight{inv: &inventory{}}, workload{Object: set, template: &set.Spec.Template}, 5); got != c.want {
			t.Errorf("partition %d, %d updated: %q, want %q", c.partition, c.updated, got, c.want)
		}
	}
}

// TestRefusedPodsAreNamed: a quota lets the template pass and not the Pods.
func TestRefusedPodsAreNamed(t *testing.T) {
	t.Parallel()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", Annotations: map[string]string{v1alpha1.AnnotationAvailable: "1"}}}
	d.Status = appsv1.DeploymentStatus{Replicas: 1, AvailableReplicas: 1, Conditions: []appsv1.DeploymentCondition{{
		Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue,
		Message: `pods "d-5d9-x7k2p" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1`,
	}}}
	why, broken := bare().waits(&sight{inv: &inventory{}}, workload{Object: d, template: &d.Spec.Template}, 5)
	if want := "its Pods are refused: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1"; why != want || !broken {
		t.Errorf("%q, broken %t, want %q", why, broken, want)
	}
}

// TestAStaleCacheBeginsNothing: what was just re-pointed counts as under way
// although the cache does not show it, and who takes our mark away is not
// fought.
func TestAStaleCacheBeginsNothing(t *testing.T) {
	t.Parallel()
	s, r, doc := fleet("a", "b", "c", "d", "e"), bare(), moving()
	for i := range s.inv.deployments {
		d := &s.inv.deployments[i]
		d.UID, d.ResourceVersion = types.UID(d.Name), "7"
	}
	for _, ro := range r.measure(s, doc).next() {
		r.remember(ro, doc)
	}
	if p := r.measure(s, doc); len(p.next()) != 0 || len(p.underway) != 3 || len(p.todo) != 2 {
		t.Errorf("%d begin, %d under way, %d to do", len(p.next()), len(p.underway), len(p.todo))
	}
	s.inv.deployments[0].ResourceVersion = "8" // and its annotations are gone
	p := r.measure(s, doc)
	if len(p.left) != 1 || !strings.Contains(p.left[0].String(), "a: it was re-pointed in this switch and changed back") {
		t.Errorf("left %v", p.left)
	}
	if next := p.next(); len(next) != 1 || next[0].GetName() != "d" {
		t.Errorf("%v begin", next)
	}
	r.forget(6)
	if len(r.sent) != 0 {
		t.Error("the next switch finds what this one did")
	}
}

// TestTheOrderDoesNotHangOnTheCache: a cache lists in any order.
func TestTheOrderDoesNotHangOnTheCache(t *testing.T) {
	t.Parallel()
	s := fleet("e", "c", "a", "d", "b", "deckhouse:done")
	for range 5 {
		s.inv.deployments = append(s.inv.deployments[1:], s.inv.deployments[0])
		var got []string
		for _, ro := range bare().measure(s, moving()).next() {
			got = append(got, ro.GetName())
		}
		if !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("%v begin", got)
		}
	}
}

// TestAnOperatorCanGoOnWithoutOne: what does not come up is not waited for once
// it is opted out, nor is what goes away.
func TestAnOperatorCanGoOnWithoutOne(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*sight){
		"opted out": func(s *sight) { s.inv.deployments[0].Annotations[v1alpha1.AnnotationRepoint] = "false" },
		"deleted":   func(s *sight) { s.inv.deployments[0].DeletionTimestamp = &metav1.Time{} },
		"nothing":   nil,
	} {
		s := fleet("a:stuck", "b")
		if change != nil {
			change(s)
		}
		if next := bare().measure(s, moving()).next(); (len(next) == 1) != (change != nil) {
			t.Errorf("%s: %d begin", name, len(next))
		}
	}
	s := fleet("a:stuck", "b")
	s.inv.ending = map[string]bool{v1alpha1.Namespace: true}
	p := bare().measure(s, moving())
	if len(p.underway) != 0 || len(p.left) != 1 || p.left[0].String() != "Deployment d8-system/b: Namespace d8-system is being deleted" {
		t.Errorf("in an ending namespace %d are under way, left %v", len(p.underway), p.left)
	}
}

// TestDeckhouseRegistryWaitsForTheNodes: the target is named in it for the
// first time only while every node knows the target's name.
func TestDeckhouseRegistryWaitsForTheNodes(t *testing.T) {
	t.Parallel()
	doc := moving()
	doc.Target = doc.Desired.Registry
	doc.Desired.Workloads = doc.Target.Name()
	s := &sight{registrySecret: &corev1.Secret{}}
	for _, repoint := range []bool{true, false} {
		doc.Desired.Repoint = repoint
		if got := namesTooEarly(s, doc); got == repoint {
			t.Errorf("rollouts may begin: %t, and it is too early: %t", repoint, got)
		}
	}
	setAnnotation(s.registrySecret, v1alpha1.AnnotationRegistryChecksum, checksum(doc))
	if namesTooEarly(s, doc) {
		t.Error("what is ours already is not healed")
	}
}
