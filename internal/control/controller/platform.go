package controller

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
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
	left     []leftover
	refused  string
	hold     bool // no rollout may begin now
	moved    bool // the platform's move to this target has ended before
}

// leftover is a workload that names another base and is not ours to re-point.
type leftover struct {
	workload
	why string
}

func (l leftover) String() string { return l.workload.String() + ": " + l.why }

// measure compares the platform with what a document desires.
func (r *Reconciler) measure(s *sight, doc document) progress {
	p := progress{
		secrets:  len(r.pullSecretChanges(s, doc)) > 0,
		registry: registryChange(s, doc) != nil,
		address:  s.addressChange(doc) != nil,
		own:      r.ownProgress(s, doc),
		refused:  r.refused,
		hold:     !doc.Desired.Repoint,
		moved:    doc.moved(),
	}
	if left, ok := r.ownLeft(s, doc); ok {
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
	// By name as well: a cache lists in any order, and which three come first
	// must not change from one pass to the next.
	slices.SortFunc(p.todo, rollout.compare)
	slices.SortFunc(p.underway, rollout.compare)
	slices.SortFunc(p.left, func(a, b leftover) int { return cmp.Compare(a.String(), b.String()) })
	return p
}

// measureOne says of one workload whether it is to be re-pointed, under way, or
// not ours to move.
func (r *Reconciler) measureOne(p *progress, s *sight, doc document, w workload, bases []layout.Name) {
	ro := rollout{workload: w, moves: rebase(&w.template.Spec, bases, doc.Desired.Workloads)}
	toMove := !ro.none()
	sent := r.sentIn(w.GetUID(), doc.Switch)
	if sent.unseen(w) {
		ro.why = unobservedYet
		p.underway = append(p.underway, ro)
		return
	}
	patched := w.GetAnnotations()[v1alpha1.AnnotationRepointed] == switchNumber(doc.Switch)
	if !patched && sent.from == "" {
		ro.checksum = restartOf(w, doc)
	}
	if toMove {
		if reason := r.mayMove(w, doc.Switch); reason != "" {
			p.left = append(p.left, leftover{w, reason})
			ro.moves, toMove = moves{}, false
		}
	}
	switch {
	case toMove && s.held[w.GetNamespace()] != nil: // its new pods could not pull
	case toMove || ro.checksum != "":
		p.todo = append(p.todo, ro)
	case !patched || doc.moved() && !sent.late || w.spared() != "":
	default:
		if ro.why, ro.broken = r.waits(s, w, doc.Switch); ro.why == "" {
			r.arrived(w.GetUID())
			return
		}
		p.underway = append(p.underway, ro)
	}
}

// restartOf is the template annotation by which Deckhouse is restarted to read
// its registry anew; empty for others, and where it has.
func restartOf(w workload, doc document) string {
	if !isDeckhouse(w) || doc.Desired.Registry.IsZero() || w.template.Annotations[v1alpha1.AnnotationRegistryChecksum] == checksum(doc) {
		return ""
	}
	return checksum(doc)
}

// moved reports whether the platform's move to the present target has ended.
// What falls ill later is not the switch's, and must not hold up anything.
func (d document) moved() bool {
	return slices.ContainsFunc(d.Passed, func(p switchover.Passed) bool { return p.Step == v1alpha1.ConditionSwitch })
}

func (ro rollout) compare(o rollout) int {
	return cmp.Or(ro.turn()-o.turn(), cmp.Compare(ro.String(), o.String()))
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
	out := switchover.Platform{Target: doc.Desired.Registry, Refused: p.refused}
	for _, l := range p.left {
		out.Skipped = append(out.Skipped, l.String())
	}
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
		line := "- " + ro.String() + ": " + ro.why
		if ro.broken {
			line += "; no other rollout begins before it has come up"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
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
