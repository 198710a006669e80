package platform

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
)

const (
	// stuckAfter is how long a rollout may make no progress before it counts as
	// broken. It is the default of Deployments; other kinds have no such limit.
	stuckAfter = 10 * time.Minute
	// BrokenBefore is the same for a workload that was not fully available before
	// the switch, or has Pods on lost nodes. After that time the switch goes on
	// without it: a DaemonSet or StatefulSet stops when a Pod is missing, and
	// what was broken before is not the fault of the switch.
	BrokenBefore = time.Minute
)

// unobservedYet: the workload's controller has not seen the new template.
const unobservedYet = "the new template is not observed yet"

// reached is the most progress that a rollout has made, and since when.
type reached struct {
	number                        int64 // of the switch
	updated, available, unretired int
	since                         time.Time
}

// rolloutStatus says what a workload still waits for that was re-pointed in the
// switch with this number; empty when it is done. Broken says that it does not
// come up. Pods on nodes that the switch does not wait for do not count.
func (m *Mover) rolloutStatus(here *sight, w cluster.Workload, number int64) (why string, broken bool) {
	if w.Unobserved {
		return unobservedYet, false
	}
	if w.TemplateOnly {
		return "", false
	}
	absent, stuck := here.stuckPods(w)
	if stuck != "" {
		return "Pod " + stuck + " waits for its image", true
	}
	before, err := strconv.Atoi(w.GetAnnotations()[v1alpha1.AnnotationAvailable])
	if err != nil {
		before = 0
	}
	enough := min(before, w.Pods.Wanted) - absent
	if why = missing(w, before, enough, absent); why == "" {
		return "", false
	}
	// A workload that was broken before is left after leaveBroken; any other counts
	// as broken after stuckAfter.
	still := m.withoutProgress(here.v, w, number)
	if w.Pods.Available >= enough && (before < w.Pods.Wanted || absent > 0) {
		if still >= m.leaveBroken {
			return "", false
		}
		here.v.WakeIn(m.leaveBroken - still)
	}
	here.v.WakeIn(stuckAfter - still)
	return why, w.Pods.Failed || w.Pods.Refused != "" || still >= stuckAfter
}

// sight is what rollouts look up for each workload and pod. It is made once in a
// measurement, when the first rollout asks.
type sight struct {
	v       *state.View
	pods    *podIndex
	present map[string]bool // nodes that the switch waits for
}

func (s *sight) look() {
	if s.pods != nil {
		return
	}
	s.pods, s.present = indexPods(s.v.Inventory), map[string]bool{}
	for i := range s.v.Observed.Nodes {
		n := &s.v.Observed.Nodes[i]
		s.present[n.Name] = (n.Ready || n.NotReadyFor < s.v.Observed.Settings.NotReadyFor) && !n.Exclude
	}
}

// stuckPods counts the pods of a workload on nodes that the switch does not wait for.
// Stuck names one that has the new images and cannot pull them. A pod that is not
// scheduled may still start.
func (s *sight) stuckPods(w cluster.Workload) (absent int, stuck string) {
	s.look()
	for _, pod := range s.pods.of(w) {
		if pod.Node != "" && !s.present[pod.Node] {
			absent++
			continue
		}
		if _, waits := pod.WaitsForImage(); waits && sameImages(pod, w.Template) && (stuck == "" || pod.Name < stuck) {
			stuck = pod.Name
		}
	}
	return absent, stuck
}

// sameImages reports whether the Pod has all images of the template: an outdated Pod that
// cannot start is not the switch's fault.
func sameImages(pod *excerpt.Pod, template *corev1.PodTemplateSpec) bool {
	return !slices.ContainsFunc(excerpt.Images(&template.Spec), func(image string) bool { return !slices.Contains(pod.Images, image) })
}

// missing says what a rollout still needs; empty when nothing. Before is how many
// pods were available before it, enough how many must be available, absent how
// many are on nodes that are away.
func missing(w cluster.Workload, before, enough, absent int) string {
	c := w.Pods
	kept := c.Wanted - c.Rolls // a partition keeps these
	need := cluster.Need{Updated: c.Rolls - absent, Outdated: kept + absent, Available: enough}
	if before <= 0 {
		need.Outdated = math.MaxInt // no pod was available before: old pods may stay
	}
	switch w.RolloutOf(need) {
	case cluster.RolloutDone, cluster.RolloutUnobserved: // handled by the caller
	case cluster.RolloutRefused:
		return "its Pods are refused: " + c.Refused
	case cluster.RolloutNotUpdated:
		return fmt.Sprintf("%d of %d Pods have been updated", c.Updated, c.Rolls)
	case cluster.RolloutOutdated:
		return fmt.Sprintf("%d outdated Pods are still running", c.Outdated-kept)
	case cluster.RolloutNotAvailable:
		return fmt.Sprintf("%d of %d updated Pods are available", c.Available, c.Wanted)
	}
	return ""
}

// withoutProgress is for how long the rollout has not got further than before.
// Pods that come and go are no progress.
func (m *Mover) withoutProgress(v *state.View, w cluster.Workload, number int64) time.Duration {
	now, c := v.Observed.Now, w.Pods
	r, known := m.reached[w.GetUID()]
	known = known && r.number == number
	if known && c.Updated <= r.updated && c.Available <= r.available && c.Outdated >= r.unretired {
		return now.Sub(r.since)
	}
	if known {
		c.Updated, c.Available, c.Outdated = max(c.Updated, r.updated), max(c.Available, r.available), min(c.Outdated, r.unretired)
	}
	m.reached[w.GetUID()] = reached{number, c.Updated, c.Available, c.Outdated, now}
	return 0
}
