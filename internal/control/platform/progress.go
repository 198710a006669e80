package platform

import (
	"cmp"
	"fmt"
	"slices"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// atOnce is how many rollouts may be under way at the same time.
const atOnce = 3

// Rollout is the move of one workload to the wanted name.
type Rollout struct {
	cluster.Workload
	cluster.Repointing
	why    string // what it waits for after the patch
	broken bool   // it does not come up
}

// String is that of the workload.
func (ro Rollout) String() string { return ro.Workload.String() }

// Progress is how far the platform's workloads have moved. It is measured twice in a
// pass, by the same function: against the stored document for switchover, and against
// the new document to act on.
type Progress struct {
	todo     []Rollout
	underway []Rollout
	skipped  []Skipped
	refused  []string
	paused   bool // no rollout may begin now
	moved    bool // step Switch of this target is done already
}

// Skipped is a workload that names another base and that we must not re-point.
type Skipped struct {
	cluster.Workload
	Why string
}

// String names the workload and the reason.
func (s Skipped) String() string { return s.Workload.String() + ": " + s.Why }

// Idle reports whether nothing is to be re-pointed or under way.
func (p Progress) Idle() bool { return len(p.todo)+len(p.underway) == 0 }

// Skip adds a workload that another package found.
func (p *Progress) Skip(s Skipped) {
	p.skipped = append(p.skipped, s)
	slices.SortFunc(p.skipped, func(a, b Skipped) int { return cmp.Compare(a.String(), b.String()) })
}

// Measure compares the platform's workloads with what the view's document asks
// for.
func (m *Mover) Measure(v *state.View) Progress {
	p := Progress{refused: m.refused, paused: !v.Doc.Desired.Repoint, moved: v.Doc.Moved()}
	if v.Doc.Desired.Workloads == (layout.Name{}) {
		return p
	}
	names, here := v.KnownNames(), &sight{v: v}
	for _, w := range v.Inventory.Workloads() {
		if w.Platform {
			m.measureOne(&p, here, w, names)
		}
	}
	// A cache lists in any order, but every pass must begin the same rollouts.
	slices.SortFunc(p.todo, Rollout.compare)
	slices.SortFunc(p.underway, Rollout.compare)
	slices.SortFunc(p.skipped, func(a, b Skipped) int { return cmp.Compare(a.String(), b.String()) })
	return p
}

// measureOne adds one workload to the list that it belongs to, if any.
func (m *Mover) measureOne(p *Progress, here *sight, w cluster.Workload, names []layout.Name) {
	v := here.v
	ro := Rollout{Workload: w, Repointing: cluster.Repointing{Moves: cluster.Rebase(&w.Template.Spec, names, v.Doc.Desired.Workloads), Switch: v.Doc.Switch}}
	toMove := !ro.None()
	sent := m.sentIn(w.GetUID(), v.Doc.Switch)
	if sent.unseen(w) {
		ro.why = unobservedYet
		p.underway = append(p.underway, ro)
		return
	}
	patched := w.RepointedIn(v.Doc.Switch)
	if !patched && sent.from == "" {
		ro.Checksum = restartOf(w, v.Doc)
	}
	if toMove {
		if reason := m.notOurs(w, v.Doc.Switch, names); reason != "" {
			p.skipped = append(p.skipped, Skipped{w, reason})
			ro.Moves, toMove = cluster.Moves{}, false
		}
	}
	switch {
	case toMove && v.Blocked[w.GetNamespace()] != nil: // waits for its pull secret
	case toMove || ro.Checksum != "":
		p.todo = append(p.todo, ro)
	case !patched || v.Doc.Moved() && !sent.late || w.Spared() != "": // not touched in this switch, or broken later: nobody waits for it
	default:
		m.measureUnderway(p, here, ro)
	}
}

// measureUnderway adds a workload whose template was changed in this switch, if its
// rollout has not ended.
func (m *Mover) measureUnderway(p *Progress, here *sight, ro Rollout) {
	ro.why, ro.broken = m.rolloutStatus(here, ro.Workload, here.v.Doc.Switch)
	switch {
	case ro.why == "":
		m.ended(ro.GetUID())
	case ro.broken && ro.Foreign: // whoever made it may not stop the others
		p.skipped = append(p.skipped, Skipped{ro.Workload, "it was re-pointed and does not come up: " + ro.why})
	default:
		p.underway = append(p.underway, ro)
	}
}

// restartOf is the template annotation that restarts Deckhouse, so that it reads
// its registry again. It is empty for other workloads, and where it is set
// already.
func restartOf(w cluster.Workload, doc state.Document) string {
	if !isDeckhouse(w) || doc.Desired.Registry.IsZero() || w.Template.Annotations[v1alpha1.AnnotationRegistryChecksum] == doc.RegistryChecksum() {
		return ""
	}
	return doc.RegistryChecksum()
}

func (ro Rollout) compare(o Rollout) int {
	return cmp.Or(ro.turn()-o.turn(), cmp.Compare(ro.String(), o.String()))
}

// turn orders rollouts: Deckhouse first, DaemonSets last, and after them what is
// not in a namespace of the platform.
func (ro Rollout) turn() int {
	switch {
	case ro.Foreign:
		return 3
	case isDeckhouse(ro.Workload):
		return 0
	case ro.Kind.Kind == "DaemonSet":
		return 2
	}
	return 1
}

// next are the rollouts that may begin now.
func (p Progress) next() []Rollout {
	if p.paused || len(p.todo) == 0 || slices.ContainsFunc(p.underway, func(ro Rollout) bool { return ro.broken || ro.turn() == 0 }) {
		return nil
	}
	turn := p.todo[0].turn()
	if slices.ContainsFunc(p.underway, func(ro Rollout) bool { return ro.turn() < turn }) {
		return nil // a rollout of an earlier turn has not ended
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

// Others is how far the rest of the switch is.
type Others struct {
	Registry bool   // pull secrets or deckhouse-registry are to be written
	Own      string // what our own workloads wait for; empty when nothing
	Address  bool   // ConfigMap registry-image-address is to be written
}

// Platform is the progress as switchover reads it, joined with that of others.
func (p Progress) Platform(doc state.Document, others Others) switchover.Platform {
	out := switchover.Platform{Target: doc.Desired.Registry, Refused: p.refused}
	for _, s := range p.skipped {
		out.Skipped = append(out.Skipped, s.String())
	}
	switch {
	case others.Registry:
		out.Message = "Updating registry for deckhouse components"
	case len(p.todo) > 0 && p.todo[0].turn() == 0:
		out.Message = "Applying new registry to deckhouse-controller"
	case len(p.underway) > 0 && p.underway[0].turn() == 0:
		out.Message = "Waiting for deckhouse-controller to become ready: " + p.underway[0].why
	case !p.Idle():
		out.Message = fmt.Sprintf("%d workload(s) to re-point, %d under way", len(p.todo), len(p.underway))
		out.Waiting = p.rollouts()
	case others.Own != "":
		out.Message = others.Own
	case others.Address:
		out.Message = "Publishing ConfigMap " + v1alpha1.ConfigMapImageAddress
	default:
		out.Moved = true
	}
	return out
}

func (p Progress) rollouts() []string {
	var lines []string
	for _, ro := range p.underway {
		line := ro.String() + ": " + ro.why
		if ro.broken {
			line += "; no other rollout begins before it has come up"
		}
		lines = append(lines, line)
	}
	return lines
}

func isDeckhouse(w cluster.Workload) bool {
	return w.Kind.Kind == "Deployment" && w.GetNamespace() == v1alpha1.Namespace && w.GetName() == v1alpha1.DeploymentDeckhouse
}

// Warn makes Events on workloads that the others wait for, and on those that are
// not moved. First reports whether its arguments are new: each Event is made
// once.
func (p Progress) Warn(events cluster.Events, first func(...any) bool) {
	for _, ro := range p.underway {
		if ro.broken && first(ro.GetUID(), "\n", ro.why) {
			events.Warningf(ro.Object, "RegistryRolloutStuck", "no other workload is re-pointed before this one has come up, or has annotation %s: %q: %s", v1alpha1.AnnotationRepoint, "false", ro.why)
		}
	}
	if !p.moved {
		return
	}
	for _, s := range p.skipped {
		if first(s.GetUID(), "\n", s.Why) {
			events.Normalf(s.Object, "RegistryNotRepointed", "images are left under their old name, which goes on working: %s", s.Why)
		}
	}
}
