package switchover

import (
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/layout"
)

// rules are what the steps share. They are functions in a struct, so that the
// property test can leave each of them out and see it missed.
type rules struct {
	// valid reports whether a node's report is about the node as it is now.
	valid func(Node) bool
	// at reports whether a node with a valid report serves a generation.
	at func(n Node, generation int64) bool
	// union is the layout of a switch under way.
	union func(*evaluation) layout.Layout
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
		at:              func(n Node, generation int64) bool { return n.Report.Generation >= generation },
		union:           union,
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

// barrier is done when every counting node has a valid report of at least the
// generation.
func (e *evaluation) barrier(generation int64) verdict {
	waiting, of := e.waitingFor(func(n Node) bool { return e.rules.valid(n) && e.rules.at(n, generation) })
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

// counts reports whether barriers wait for a node. A node that joins counts
// from its agent's first report: until then our taint keeps pods away.
func (e *evaluation) counts(n Node) bool {
	joins := n.Report.UID != n.UID && n.Tainted && e.s.SafeGeneration > 0 && !e.seen.Settings.NoTaint
	return n.Agent && !joins && !e.excluded(n)
}

func (e *evaluation) excluded(n Node) bool {
	return slices.ContainsFunc(e.s.Excluded, func(e Exclusion) bool { return e.Node == n.Name && e.UID == n.UID })
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
	e.s.Excluded = exclusions(append(chosen, byHand...), e.s.Excluded, e.s.Desired.Layout.Generation)
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

func exclusions(nodes []Node, stored []Exclusion, generation int64) []Exclusion {
	slices.SortFunc(nodes, byName)
	var all []Exclusion
	for _, n := range nodes {
		e := Exclusion{Node: n.Name, UID: n.UID, Generation: generation}
		if i := slices.IndexFunc(stored, func(o Exclusion) bool { return o.Node == e.Node && o.UID == e.UID }); i >= 0 {
			e = stored[i]
		}
		all = append(all, e)
	}
	return all
}

// Tainted are the names of the nodes that should carry the not-converged
// taint, sorted: those without a valid report of the last proved union. A node
// loses the taint only with a proof of the layout that is wanted now. So a
// state that was restored from an older copy removes no taint.
func (p Protocol) Tainted(s State, seen Observed) []string {
	if seen.Settings.NoTaint {
		return nil
	}
	var tainted []string
	for _, n := range seen.Nodes {
		wanted := s.SafeGeneration
		if n.Tainted {
			wanted = max(wanted, s.Desired.Layout.Generation)
		}
		if proved := p.rules.valid(n) && p.rules.at(n, wanted); n.Agent && wanted > 0 && !proved {
			tainted = append(tainted, n.Name)
		}
	}
	slices.Sort(tainted)
	return tainted
}
