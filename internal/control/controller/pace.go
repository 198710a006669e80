package controller

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

const (
	// lookMin and lookMax are between two close looks of which the first did
	// not let a step go on: each lists the whole cluster and asks the registry
	// for every image, and events come at any rate.
	lookMin = 250 * time.Millisecond
	lookMax = 10 * time.Second
	// messagePause is between two writes of the state of which the second only
	// words a condition otherwise: with every node's report one would change.
	messagePause = 2 * time.Second
)

// closeLook is the last close look that let nothing go on.
type closeLook struct {
	step, message string
	generation    int64
	at            time.Time
	failures      int
}

// pause is how long to wait until the next close look, and why the last one
// did not do; 0 when it may be made now.
func (l closeLook) pause(doc document, now time.Time) (time.Duration, string) {
	if l.failures == 0 || l.generation != doc.Generation || waitsAt(doc) != l.step {
		return 0, ""
	}
	wait := min(lookMin<<min(l.failures-1, 10), lookMax)
	return max(0, l.at.Add(wait).Sub(now)), l.message
}

// looked remembers what became of a close look.
func (r *Reconciler) looked(s *sight, doc document) {
	if !s.world.Census.Live {
		return
	}
	step := waitsAt(doc)
	if step == "" || s.world.Census.Problem == "" && s.world.FinalCheck.FailureCount == 0 && s.world.FinalCheck.Problem == "" {
		r.look = closeLook{}
		return
	}
	if r.look.step != step || r.look.generation != doc.Generation {
		r.look = closeLook{}
	}
	r.look = closeLook{step: step, message: messageOf(doc, step), generation: doc.Generation, at: s.world.Now, failures: r.look.failures + 1}
}

// waitsAt is the step that a switch waits at; empty when it has ended.
func waitsAt(doc document) string {
	for _, c := range doc.Conditions {
		if c.Type != v1alpha1.ConditionReady && c.Status != metav1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

func messageOf(doc document, step string) string {
	for _, c := range doc.Conditions {
		if c.Type == step {
			return c.Message
		}
	}
	return ""
}

// settleWords keeps the words of before where nothing but words would be
// stored, and that was done a moment ago. It returns when to look again.
func (r *Reconciler) settleWords(st stored, doc *document, now time.Time) time.Duration {
	if wait := r.stored.Add(messagePause).Sub(now); wait > 0 && onlyWords(st.document, *doc) {
		doc.Conditions = st.Conditions
		return wait
	}
	return 0
}

// onlyWords reports whether two documents differ in messages of conditions and
// in nothing else.
func onlyWords(before, after document) bool {
	same := slices.EqualFunc(before.Conditions, after.Conditions, func(a, b metav1.Condition) bool {
		return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason
	})
	if !same || slices.EqualFunc(before.Conditions, after.Conditions, func(a, b metav1.Condition) bool { return a.Message == b.Message }) {
		return false
	}
	after.Conditions = before.Conditions
	a, errA := before.encode()
	b, errB := after.encode()
	return errA == nil && errB == nil && string(a) == string(b)
}

// warn tells by Events of what conditions have no place for, once each as long
// as this process lives: conditions are about the switch, not what works now.
func (r *Reconciler) warn(s *sight) {
	still := map[string]bool{}
	first := func(words ...any) bool {
		id := fmt.Sprint(words...)
		still[id] = true
		return !r.warned[id]
	}
	for i := range s.nodes {
		if rn := s.registryNodes[s.nodes[i].Name]; rn != nil && rn.Status.NodeUID == string(s.nodes[i].UID) {
			r.warnOfNode(&s.nodes[i], rn, first)
		}
	}
	r.warnOfPlatform(s.progress, first)
	r.warned = still
}

// warnOfNode tells, on the Node, of what its agent warns of and of restarts of
// its containerd.
func (r *Reconciler) warnOfNode(node *corev1.Node, rn *v1alpha1.RegistryNode, first func(...any) bool) {
	for _, warning := range rn.Status.Warnings {
		if first(node.UID, "\n", warning) {
			r.warningf(node, "ContainerdWarning", "%s", warning)
		}
	}
	restart := rn.Status.Restart
	switch {
	case restart == nil || restart.Phase == v1alpha1.RestartWaiting || !first(node.UID, "\n", restart.Phase, restart.ID):
	case restart.Phase == v1alpha1.RestartFailed:
		r.warningf(node, "ContainerdRestartFailed", "%s", restart.Message)
	default:
		r.eventf(node, "ContainerdRestart", "containerd is being restarted: %s", restart.Message)
	}
}

// warnOfPlatform tells, on the workloads, which of them hold the others up and
// which were not moved.
func (r *Reconciler) warnOfPlatform(p progress, first func(...any) bool) {
	for _, ro := range p.underway {
		if ro.broken && first(ro.GetUID(), "\n", ro.why) {
			r.warningf(ro.Object, "RegistryRolloutStuck", "no other workload is re-pointed before this one has come up, or has annotation %s: %q: %s", v1alpha1.AnnotationRepoint, "false", ro.why)
		}
	}
	if !p.moved {
		return
	}
	for _, l := range p.left {
		if first(l.GetUID(), "\n", l.why) {
			r.eventf(l.Object, "RegistryNotRepointed", "images are left under their old name, which goes on working: %s", l.why)
		}
	}
}
