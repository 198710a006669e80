package controller

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

const (
	// standsStill is how long a rollout may go no further before it counts as
	// one that does not come up. It is what Deployments have by default; other
	// kinds have nothing like it.
	standsStill = 10 * time.Minute
	// brokenBefore is how long one may that was not wholly available before, or
	// has Pods on lost nodes, until it is left where it is: a DaemonSet goes no
	// further once a Pod is missing, nor does a StatefulSet, and what was broken
	// before is not the switch's.
	brokenBefore = time.Minute
)

// unobservedYet is what is said of a template that nobody has acted upon.
const unobservedYet = "the new template is not observed yet"

// headway is how far a rollout got at most, and since when.
type headway struct {
	number                        int64 // of the switch
	updated, available, unretired int
	since                         time.Time
}

// waits says what a workload that was re-pointed still waits for; empty when it
// is done. Pods on nodes that the barrier does without do not count.
func (r *Reconciler) waits(s *sight, w workload, number int64) (why string, broken bool) {
	if w.unobserved() {
		return unobservedYet, false
	}
	if templateOnly(w) {
		return "", false
	}
	absent, stuck := s.troubledPods(w)
	if stuck != "" {
		return "Pod " + stuck + " waits for its image", true
	}
	before, err := strconv.Atoi(w.GetAnnotations()[v1alpha1.AnnotationAvailable])
	if err != nil {
		before = 0
	}
	c := countPods(w)
	enough := min(before, c.wanted) - absent
	if why = c.misses(before, enough, absent); why == "" {
		return "", false
	}
	still := r.still(s, w, number, c)
	if c.available >= enough && (before < c.wanted || absent > 0) {
		leave := cmp.Or(r.cfg.LeaveBroken, brokenBefore)
		if still >= leave {
			return "", false
		}
		s.wakeIn(leave - still)
	}
	s.wakeIn(standsStill - still)
	return why, c.failed || c.refused != "" || still >= standsStill
}

// troubledPods counts the pods of a workload on nodes that are away, and names
// one with the new images that waits for one of them.
func (s *sight) troubledPods(w workload) (absent int, stuck string) {
	for _, pod := range s.inv.podsOf(w) {
		switch {
		case s.absent(pod.Spec.NodeName):
			absent++
		case waitsForImage(pod) && sameImages(pod, w.template) && (stuck == "" || pod.Name < stuck):
			stuck = pod.Name
		}
	}
	return absent, stuck
}

// misses says what is missing of a rollout; empty when nothing is.
func (c podCount) misses(before, enough, absent int) string {
	switch {
	case c.refused != "" && (c.updated < c.rolls-absent || c.available < enough):
		return "its Pods are refused: " + c.refused
	case c.updated < c.rolls-absent:
		return fmt.Sprintf("%d of %d Pods have been updated", c.updated, c.rolls)
	case before > 0 && c.outdated-(c.wanted-c.rolls) > absent:
		return fmt.Sprintf("%d outdated Pods are still running", c.outdated-(c.wanted-c.rolls))
	case c.available < enough:
		return fmt.Sprintf("%d of %d updated Pods are available", c.available, c.wanted)
	}
	return ""
}

// still is for how long the rollout has not got further than it ever was. What
// only comes and goes is no headway.
func (r *Reconciler) still(s *sight, w workload, number int64, c podCount) time.Duration {
	now := s.world.Now
	h, known := r.headway[w.GetUID()]
	further := !known || h.number != number || c.updated > h.updated || c.available > h.available || c.outdated < h.unretired
	if !further {
		return now.Sub(h.since)
	}
	if known && h.number == number {
		c.updated, c.available, c.outdated = max(c.updated, h.updated), max(c.available, h.available), min(c.outdated, h.unretired)
	}
	if r.headway == nil {
		r.headway = map[types.UID]headway{}
	}
	r.headway[w.GetUID()] = headway{number, c.updated, c.available, c.outdated, now}
	return 0
}

// wakeIn asks for a pass although nothing may happen until then.
func (s *sight) wakeIn(d time.Duration) {
	if d > 0 {
		s.later = soonest(s.later, d)
	}
}

// podCount is a workload's status in the words common to all kinds.
type podCount struct {
	wanted              int // Pods
	rolls               int // how many of them a rollout makes anew: a partition keeps some
	updated             int
	outdated, available int
	failed              bool   // the progress deadline has passed
	refused             string // why Pods cannot be made
}

func countPods(w workload) podCount {
	switch o := w.Object.(type) {
	case *appsv1.Deployment:
		n := replicas(o.Spec.Replicas)
		c := podCount{wanted: n, rolls: n, updated: int(o.Status.UpdatedReplicas), outdated: int(o.Status.Replicas - o.Status.UpdatedReplicas), available: int(o.Status.AvailableReplicas)}
		for _, condition := range o.Status.Conditions {
			switch {
			case condition.Type == appsv1.DeploymentProgressing && condition.Status == corev1.ConditionFalse:
				c.failed = true
			case condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue:
				// Before that stands a name that changes with each try.
				_, why, found := strings.Cut(condition.Message, " is forbidden: ")
				if c.refused = why; !found {
					c.refused = condition.Message
				}
			}
		}
		return c
	case *appsv1.StatefulSet:
		n := replicas(o.Spec.Replicas)
		return podCount{wanted: n, rolls: max(0, n-partition(o)), updated: int(o.Status.UpdatedReplicas), outdated: int(o.Status.Replicas - o.Status.UpdatedReplicas), available: int(o.Status.AvailableReplicas)}
	case *appsv1.DaemonSet:
		n, updated := int(o.Status.DesiredNumberScheduled), int(o.Status.UpdatedNumberScheduled)
		return podCount{wanted: n, rolls: n, updated: updated, outdated: n - updated, available: int(o.Status.NumberAvailable)}
	}
	return podCount{}
}

func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

// partition is below which ordinal a StatefulSet keeps its old Pods.
func partition(o *appsv1.StatefulSet) int {
	if u := o.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		return int(*u.Partition)
	}
	return 0
}

// templateOnly reports whether the workload's Pods are not made anew by a
// change of its template, or not now.
func templateOnly(w workload) bool {
	switch o := w.Object.(type) {
	case *appsv1.StatefulSet:
		return o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType
	case *appsv1.DaemonSet:
		return onDelete(w)
	case *appsv1.Deployment:
		return o.Spec.Paused
	}
	return w.kind.Kind == "CronJob"
}

func onDelete(w workload) bool {
	d, ok := w.Object.(*appsv1.DaemonSet)
	return ok && d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
}

func (s *sight) absent(node string) bool {
	if node == "" {
		return false
	}
	for _, n := range s.world.Nodes {
		if n.Name == node {
			return !n.Ready && n.NotReadyFor >= s.world.Settings.NotReadyFor || n.Exclude
		}
	}
	return true
}

// podsOf are the pods that the workload made and that still run.
func (inv *inventory) podsOf(w workload) []*corev1.Pod {
	selector := w.selector()
	var pods []*corev1.Pod
	for i := range inv.pods {
		pod := &inv.pods[i]
		ended := pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
		if pod.Namespace == w.GetNamespace() && !ended && selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// sameImages reports whether the pod has the template's images: an outdated
// pod that cannot start is not the switch's fault.
func sameImages(pod *corev1.Pod, template *corev1.PodTemplateSpec) bool {
	have := slices.Sorted(images(&pod.Spec))
	for image := range images(&template.Spec) {
		if !slices.Contains(have, image) {
			return false
		}
	}
	return true
}

// waitsForImage reports whether a container of the pod cannot be started
// because its image is not there.
func waitsForImage(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && slices.Contains(imageReasons(), w.Reason) {
				return true
			}
		}
	}
	return false
}

func imageReasons() []string {
	return []string{"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable"}
}
