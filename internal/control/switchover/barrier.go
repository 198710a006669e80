package switchover

import (
	"slices"
	"strings"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// rules are what the steps share. They are functions in a struct, so that the
// property test can leave each of them out and see it missed.
type rules struct {
	// valid reports whether a node's report is about the node as it is now.
	valid func(Node) bool
	// at reports whether a node with a valid report serves a generation.
	at func(e *evaluation, n Node, generation int64) bool
	// open reports whether pods that need a generation may run on a node with a valid
	// report.
	open func(e *evaluation, n Node, generation int64) bool
	// frees is the generation that a tainted node must serve to lose the taint.
	frees func(*evaluation) int64
	// joins reports whether a node has come since the last proof and never served
	// anything.
	joins func(*evaluation, Node) bool
	// recent reports whether a node that was believed may not be believed again.
	recent func(*evaluation, Belief) bool
	// union is the layout of a switch under way.
	union func(*evaluation) layout.Layout
	// stores is the layout that stores need beside one of the agents.
	stores func(*evaluation, layout.Layout) layout.Layout
	// gates reports whether a reference may hold a switch up.
	gates func(*evaluation, Reference) bool
	// keep are the names that Final must leave.
	keep func(*evaluation) []layout.Name
	// safeNow reports whether every counting node serves the last union that
	// was proved.
	safeNow func(*evaluation) verdict
	// mayShrink reports whether Final may take something away.
	mayShrink func(*evaluation) verdict
	// rebuild makes a state from what is published and reported.
	rebuild func(*evaluation)
	// usesRestartSlot reports whether a node counts as one of those that
	// restart containerd at the same time.
	usesRestartSlot func(*evaluation, Node) bool
}

func standardRules() rules {
	return rules{
		valid:           validReport,
		at:              serves,
		open:            isOpen,
		frees:           frees,
		joins:           joins,
		recent:          isRecent,
		union:           union,
		stores:          storeLayout,
		gates:           gates,
		keep:            namesInUse,
		safeNow:         func(e *evaluation) verdict { return e.barrier(e.s.SafeGeneration) },
		mayShrink:       mayShrink,
		rebuild:         rebuild,
		usesRestartSlot: usesRestartSlot,
	}
}

// validReport reports whether a report is about the node as it is now. One from
// before a reboot or a re-imaging is not.
func validReport(n Node) bool {
	return n.Report.UID != "" && n.Report.UID == n.UID && n.Report.BootID == n.BootID
}

// serves reports whether a node serves a generation. Nothing above what was ever
// published can be served: such a report is from a later state than ours, or a lie.
func serves(e *evaluation, n Node, generation int64) bool {
	return n.Report.Generation >= generation && !e.unpublished(n)
}

// isOpen reports whether a node has all that pods may need. Its target need not have
// answered: every name is served by all others that are in use too, and the target may
// run in this cluster and wait for this node.
func isOpen(e *evaluation, n Node, generation int64) bool {
	return max(n.Report.Generation, n.Report.Served) >= generation && !e.unpublished(n)
}

// unpublished reports whether a node reports what was never published.
func (e *evaluation) unpublished(n Node) bool {
	return n.Report.highest() > e.s.Desired.Layout.Generation
}

// barrier is done when every counting node has a valid report of at least the
// generation.
func (e *evaluation) barrier(generation int64) verdict {
	waiting, of := e.waitingFor(func(n Node) bool { return e.rules.valid(n) && e.rules.at(e, n, generation) })
	if len(waiting) == 0 && of > 0 {
		return done("")
	}
	return wait(e.rolloutMessage(waiting, of))
}

// waitingFor are the counting nodes that are not as they should be, sorted by
// name, and how many count at all.
func (e *evaluation) waitingFor(ok func(Node) bool) (waiting []Node, of int) {
	for _, n := range e.seen.Nodes {
		if !e.counts(n) {
			continue
		}
		of++
		if !ok(n) {
			waiting = append(waiting, n)
		}
	}
	slices.SortFunc(waiting, byName)
	return waiting, of
}

// counts reports whether barriers wait for a node.
func (e *evaluation) counts(n Node) bool {
	return n.Agent && !e.rules.joins(e, n) && !e.excluded(n)
}

// joins reports whether a node joins: the controller saw it come after a layout was
// proved everywhere, and its agent has not reported yet. Our taint says so, from the
// beginning, and has kept pods away. A node that merely has no report may have lost
// it, and may run anything: it counts.
func joins(e *evaluation, n Node) bool {
	return n.Joining && n.Report.UID != n.UID && e.s.SafeGeneration > 0 && !e.seen.Settings.NoTaint
}

// nodeKey is a node that is not another one of its name.
type nodeKey struct{ name, uid string }

// excluded reports whether barriers go without a node. The operator may have excluded
// any number, so it does not search the list for each node.
func (e *evaluation) excluded(n Node) bool {
	if e.left == nil {
		e.left = byNode(e.s.Excluded)
	}
	_, excluded := e.left[nodeKey{n.Name, n.UID}]
	return excluded
}

func byNode(all []Exclusion) map[nodeKey]Exclusion {
	m := make(map[nodeKey]Exclusion, len(all))
	for _, e := range all {
		m[nodeKey{e.Node, e.UID}] = e
	}
	return m
}

// exclude decides which nodes barriers go without: those that the operator
// names, and as many of the NotReady ones as is safe. Those that were excluded
// stay so until they are Ready again.
func (e *evaluation) exclude() {
	var chosen, byHand []Node
	kept, candidates := e.silent()
	// How many nodes there are that the agent should run on, and how many of them
	// are control plane.
	total, controlPlane := 0, 0
	for _, n := range e.seen.Nodes {
		if !n.Agent {
			continue
		}
		total++
		if n.ControlPlane {
			controlPlane++
		}
		if n.Exclude {
			byHand = append(byHand, n)
		}
	}
	e.tooMany = nil
	fewer := 0 // control plane nodes chosen
	for _, n := range append(kept, candidates...) {
		// Fewer than half of the control plane: the others must be a majority.
		if len(chosen) >= max(1, total/10) || n.ControlPlane && 2*(fewer+1) >= controlPlane {
			e.tooMany = append(e.tooMany, n.Name)
			continue
		}
		chosen = append(chosen, n)
		if n.ControlPlane {
			fewer++
		}
	}
	e.s.Excluded, e.left = exclusions(append(chosen, byHand...), byNode(e.s.Excluded), e.s.Desired.Layout.Generation), nil
}

// silent are the NotReady nodes that barriers may go without: those that are
// excluded already, and those that could be. Once a switch has ended none is
// added. Both are sorted by name.
func (e *evaluation) silent() (kept, candidates []Node) {
	ended := e.settledBefore() && !e.s.Desired.Legacy
	for _, n := range e.seen.Nodes {
		switch {
		case !n.Agent || n.Exclude || n.Ready || e.rules.usesRestartSlot(e, n):
		case e.excluded(n):
			kept = append(kept, n)
		case !ended && n.NotReadyFor >= e.seen.Settings.NotReadyFor:
			candidates = append(candidates, n)
		}
	}
	slices.SortFunc(kept, byName)
	slices.SortFunc(candidates, byName)
	return kept, candidates
}

func byName(a, b Node) int { return strings.Compare(a.Name, b.Name) }

func exclusions(nodes []Node, stored map[nodeKey]Exclusion, generation int64) []Exclusion {
	slices.SortFunc(nodes, byName)
	var all []Exclusion
	for _, n := range nodes {
		e, known := stored[nodeKey{n.Name, n.UID}]
		if !known {
			e = Exclusion{Node: n.Name, UID: n.UID, Generation: generation}
		}
		all = append(all, e)
	}
	return all
}

// frees is the layout that is wanted now, and not only the last proved union: a state
// that was restored from an older copy knows an older one, and the platform may have
// been re-pointed since.
func frees(e *evaluation) int64 { return max(e.s.SafeGeneration, e.s.Desired.Layout.Generation) }

// Tainted are the nodes that should carry the not-converged taint, by name, each
// with the taint's value: those that were not seen to serve the last proved union. A
// node loses the taint when it serves the layout that is wanted now. A taint that is
// there keeps its value.
func (p Protocol) Tainted(s State, seen Observed) map[string]string {
	if seen.Settings.NoTaint {
		return nil
	}
	e := p.evaluate(s, seen)
	var tainted map[string]string
	for _, n := range seen.Nodes {
		wanted := s.SafeGeneration
		if n.Tainted {
			wanted = p.rules.frees(e)
		}
		if !n.Agent || wanted == 0 || p.rules.valid(n) && p.rules.open(e, n, wanted) {
			continue
		}
		if tainted == nil {
			tainted = map[string]string{}
		}
		tainted[n.Name] = ""
		if n.Joining || n.New && !n.Tainted {
			tainted[n.Name] = names.TaintJoining
		}
	}
	return tainted
}
