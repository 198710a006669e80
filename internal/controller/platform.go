package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/switchover"
)

// atOnce is how many rollouts may be under way.
const atOnce = 3

// rollout is one workload on its way to the wanted base.
type rollout struct {
	workload
	moves
	checksum string // template annotation of Deployment deckhouse; empty for others
	why      string // what it still waits for once patched
	broken   bool   // it does not come up
}

// progress is how far the platform is with what is desired. It is measured
// twice in a pass: against the stored document for World, and against the new
// one for apply, by the same function.
type progress struct {
	secrets  bool // pull secrets are to be written
	registry bool // deckhouse-registry is to be written
	address  bool // ConfigMap registry-image-address is to be written
	own      string
	todo     []rollout
	underway []rollout
	left     []string
	refused  string
	hold     bool // no rollout may begin now
}

// measure compares the platform with what a document desires.
func (r *Reconciler) measure(s *sight, doc document) progress {
	p := progress{
		secrets:  len(r.pullSecretChanges(s, doc)) > 0,
		registry: registryChange(s, doc) != nil,
		address:  s.addressChange(doc) != nil,
		own:      r.ownProgress(s, doc),
		refused:  r.refused,
		hold:     !doc.Desired.Repoint,
	}
	if left := r.ownLeft(s, doc); left != "" {
		p.left = append(p.left, left)
	}
	if doc.Desired.Workloads == (layout.Name{}) {
		return p
	}
	bases := knownBases(doc, &s.world)
	for _, w := range s.inv.workloads(r.selector) {
		if w.platform {
			r.measureOne(&p, s, doc, w, bases)
		}
	}
	slices.SortStableFunc(p.todo, func(a, b rollout) int { return a.turn() - b.turn() })
	return p
}

// measureOne says of one workload whether it is to be re-pointed, under way, or
// not ours to move.
func (r *Reconciler) measureOne(p *progress, s *sight, doc document, w workload, bases []layout.Name) {
	ro := rollout{workload: w, moves: rebase(&w.template.Spec, bases, doc.Desired.Workloads)}
	toMove := !ro.none()
	patched := w.GetAnnotations()[annotationRepointed] == switchNumber(doc.Switch)
	if isDeckhouse(w) && !patched && !doc.Desired.Registry.IsZero() && w.template.Annotations[v1alpha1.AnnotationRegistryChecksum] != checksum(doc) {
		ro.checksum = checksum(doc)
	}
	if toMove {
		if reason := r.mayMove(w, doc.Switch); reason != "" {
			p.left = append(p.left, w.String()+": "+reason)
			ro.moves, toMove = moves{}, false
		}
	}
	switch {
	case toMove && s.held[w.GetNamespace()] != nil: // its new pods could not pull
	case toMove || ro.checksum != "":
		p.todo = append(p.todo, ro)
	case patched && !doc.moved():
		if ro.why, ro.broken = s.waits(w); ro.why != "" {
			p.underway = append(p.underway, ro)
		}
	}
}

// moved reports whether the platform's move to the present target has ended.
// What falls ill later is not the switch's, and must not hold up anything.
func (d document) moved() bool {
	return slices.ContainsFunc(d.Passed, func(p switchover.Passed) bool { return p.Step == v1alpha1.ConditionSwitch })
}

// turn orders rollouts: Deckhouse first, DaemonSets last.
func (ro rollout) turn() int {
	switch {
	case isDeckhouse(ro.workload):
		return 0
	case ro.kind.Kind == "DaemonSet":
		return 2
	}
	return 1
}

// next are the rollouts that may begin now.
func (p progress) next() []rollout {
	if p.hold || len(p.todo) == 0 || slices.ContainsFunc(p.underway, func(ro rollout) bool { return ro.broken || ro.turn() == 0 }) {
		return nil
	}
	turn := p.todo[0].turn()
	if slices.ContainsFunc(p.underway, func(ro rollout) bool { return ro.turn() < turn }) {
		return nil // Deckhouse, or something before the DaemonSets, is not there yet
	}
	free := max(0, atOnce-len(p.underway))
	if turn == 0 {
		free = min(free, 1)
	}
	last := 0
	for last < len(p.todo) && last < free && p.todo[last].turn() == turn {
		last++
	}
	return p.todo[:last]
}

// platform is the progress as a switch sees it.
func (p progress) platform(doc document) switchover.Platform {
	out := switchover.Platform{Target: doc.Desired.Registry, Refused: p.refused, Left: p.left}
	switch {
	case p.secrets, p.registry:
		out.Message = "Updating registry for deckhouse components"
	case len(p.todo) > 0 && p.todo[0].turn() == 0:
		out.Message = "Applying new registry to deckhouse-controller"
	case len(p.underway) > 0 && p.underway[0].turn() == 0:
		out.Message = "Waiting for deckhouse-controller to become ready: " + p.underway[0].why
	case len(p.todo)+len(p.underway) > 0:
		out.Message = p.rollouts()
	case p.own != "":
		out.Message = p.own
	case p.address:
		out.Message = "Publishing ConfigMap " + v1alpha1.ConfigMapImageAddress
	default:
		out.Moved = true
	}
	return out
}

func (p progress) rollouts() string {
	lines := []string{fmt.Sprintf("%d workload(s) to re-point, %d under way", len(p.todo), len(p.underway))}
	for _, ro := range p.underway[:min(len(p.underway), 10)] {
		lines = append(lines, "- "+ro.String()+": "+ro.why)
	}
	return strings.Join(lines, "\n")
}

// waits says what a workload that was re-pointed still waits for; empty when it
// is done. Pods on nodes that the barrier does without do not count.
func (s *sight) waits(w workload) (why string, broken bool) {
	if onDelete(w) || paused(w) || w.kind.Kind == "CronJob" {
		if w.unobserved() {
			return "the new template is not observed yet", false
		}
		return "", false
	}
	if w.unobserved() {
		return "the new template is not observed yet", false
	}
	absent := s.absentPods(w)
	for _, pod := range s.inv.podsOf(w) {
		if waitsForImage(pod) && !s.absent(pod.Spec.NodeName) && sameImages(pod, w.template) {
			return "Pod " + pod.Name + " waits for its image", true
		}
	}
	before, err := strconv.Atoi(w.GetAnnotations()[annotationAvailable])
	if err != nil {
		before = 0
	}
	c := countPods(w)
	switch enough := min(before, c.wanted) - absent; {
	case c.updated < c.wanted-absent:
		return fmt.Sprintf("%d of %d Pods have been updated", c.updated, c.wanted), c.failed
	case before > 0 && c.outdated > absent:
		return fmt.Sprintf("%d outdated Pods are still running", c.outdated), c.failed
	case c.available < enough:
		return fmt.Sprintf("%d of %d updated Pods are available", c.available, c.wanted), c.failed
	}
	return "", false
}

// podCount is a workload's status in the words common to all kinds.
type podCount struct {
	wanted, updated, outdated, available int
	failed                               bool // the progress deadline has passed
}

func countPods(w workload) podCount {
	switch o := w.Object.(type) {
	case *appsv1.Deployment:
		failed := slices.ContainsFunc(o.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse
		})
		return podCount{replicas(o.Spec.Replicas), int(o.Status.UpdatedReplicas), int(o.Status.Replicas - o.Status.UpdatedReplicas), int(o.Status.AvailableReplicas), failed}
	case *appsv1.StatefulSet:
		return podCount{replicas(o.Spec.Replicas), int(o.Status.UpdatedReplicas), int(o.Status.Replicas - o.Status.UpdatedReplicas), int(o.Status.AvailableReplicas), false}
	case *appsv1.DaemonSet:
		wanted := int(o.Status.DesiredNumberScheduled)
		updated := int(o.Status.UpdatedNumberScheduled)
		return podCount{wanted, updated, wanted - updated, int(o.Status.NumberAvailable), false}
	}
	return podCount{}
}

func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

// absentPods is how many of the workload's pods are on nodes that are gone or
// have been NotReady for long.
func (s *sight) absentPods(w workload) int {
	n := 0
	for _, pod := range s.inv.podsOf(w) {
		if s.absent(pod.Spec.NodeName) {
			n++
		}
	}
	return n
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

func onDelete(w workload) bool {
	switch o := w.Object.(type) {
	case *appsv1.StatefulSet:
		return o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType
	case *appsv1.DaemonSet:
		return o.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
	}
	return false
}

func paused(w workload) bool {
	d, ok := w.Object.(*appsv1.Deployment)
	return ok && d.Spec.Paused
}

func isDeckhouse(w workload) bool {
	return w.kind.Kind == "Deployment" && w.GetNamespace() == v1alpha1.Namespace && w.GetName() == v1alpha1.DeploymentDeckhouse
}

// checksum stands for the registry that Deckhouse should have read. It holds
// still when only pull secrets shrink, and holds nothing that could be guessed.
func checksum(doc document) string {
	t := doc.Desired.Registry
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s\n%s\n%d", t.Mode, t.Upstream, doc.Switch)))
	return hex.EncodeToString(sum[:])
}

func switchNumber(n int64) string { return strconv.FormatInt(n, 10) }
