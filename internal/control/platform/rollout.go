package platform

import (
	"fmt"
	"math"
	"strconv"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
)

const (
	// standsStill is how long a rollout may go no further before it counts as
	// one that does not come up. It is what Deployments have by default; other
	// kinds have nothing like it.
	standsStill = 10 * time.Minute
	// BrokenBefore is the same for a workload that was not wholly available
	// before, or has Pods on lost nodes; it is then left where it is. A DaemonSet
	// goes no further once a Pod is missing, nor does a StatefulSet, and what was
	// broken before is not the switch's.
	BrokenBefore = time.Minute
)

// unobservedYet is what is said of a template that nobody has acted upon.
const unobservedYet = "the new template is not observed yet"

// reached is how far a rollout got at most, and since when.
type reached struct {
	number                        int64 // of the switch
	updated, available, unretired int
	since                         time.Time
}

// waits says what a workload that was re-pointed still waits for; empty when it
// is done. Pods on nodes that the barrier does without do not count.
func (m *Mover) waits(v *state.View, w cluster.Workload, number int64) (why string, broken bool) {
	if w.Unobserved {
		return unobservedYet, false
	}
	if w.TemplateOnly {
		return "", false
	}
	absent, stuck := stuckPods(v, w)
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
	still := m.still(v, w, number)
	if w.Pods.Available >= enough && (before < w.Pods.Wanted || absent > 0) {
		if still >= m.leaveBroken {
			return "", false
		}
		v.WakeIn(m.leaveBroken - still)
	}
	v.WakeIn(standsStill - still)
	return why, w.Pods.Failed || w.Pods.Refused != "" || still >= standsStill
}

// stuckPods counts the pods of a workload on nodes that are away, and names one
// with the new images that waits for one of them.
func stuckPods(v *state.View, w cluster.Workload) (absent int, stuck string) {
	for _, pod := range v.Inventory.PodsOf(w) {
		switch {
		case away(v, pod.Spec.NodeName):
			absent++
		case cluster.WaitsForImage(pod) && cluster.SameImages(pod, w.Template) && (stuck == "" || pod.Name < stuck):
			stuck = pod.Name
		}
	}
	return absent, stuck
}

// away reports whether nothing is to be expected of a node. A pod that is on
// none yet is not away.
func away(v *state.View, node string) bool {
	if node == "" {
		return false
	}
	for _, n := range v.Observed.Nodes {
		if n.Name == node {
			return !n.Ready && n.NotReadyFor >= v.Observed.Settings.NotReadyFor || n.Exclude
		}
	}
	return true
}

// missing says what is missing of a rollout; empty when nothing is. Before is
// how many pods were available before it, enough how many must be, absent how
// many are on nodes that are away.
func missing(w cluster.Workload, before, enough, absent int) string {
	c := w.Pods
	kept := c.Wanted - c.Rolls // a partition keeps these
	need := cluster.Need{Updated: c.Rolls - absent, Outdated: kept + absent, Available: enough}
	if before <= 0 {
		need.Outdated = math.MaxInt // a rollout that had nothing to lose may leave its old pods
	}
	switch w.RolloutOf(need) {
	case cluster.RolloutDone, cluster.RolloutUnobserved: // asked before
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

// still is for how long the rollout has not got further than it ever was. What
// only comes and goes is no progress.
func (m *Mover) still(v *state.View, w cluster.Workload, number int64) time.Duration {
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
