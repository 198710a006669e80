package switchover

import (
	"fmt"
	"slices"
	"strings"
)

// standing is what the reports of a node that is not where it should be say of it.
func (e *evaluation) standing(n Node) string {
	switch silent := e.silence(n); {
	case silent != "":
		return silent
	case e.rules.joins(e, n):
		return "joins"
	case n.Report.UID != n.UID:
		return "its agent has not reported"
	case !e.rules.valid(n):
		return "its agent has not reported since the node booted"
	case e.unpublished(n):
		return fmt.Sprintf("reports generation %d, which was never published", max(n.Report.Generation, n.Report.Served, n.Report.Ahead))
	}
	return fmt.Sprintf("serves generation %d", max(n.Report.Generation, n.Report.Served)) + because(n)
}

// behindMessage names the Ready nodes that do not serve the last union that was
// proved: silent ones, those that came later, and those that lie. Pods are kept off
// them, and no barrier is waiting that could say so. After them it names silent ones
// that served it when they were heard last, and stores that are gone.
func (e *evaluation) behindMessage() string {
	var behind, quiet []Node
	for _, n := range e.seen.Nodes {
		if !n.Agent || !n.Ready || e.s.SafeGeneration == 0 || e.excluded(n) {
			continue
		}
		switch there := e.rules.valid(n) && e.rules.open(e, n, e.s.SafeGeneration); {
		case !there:
			behind = append(behind, n)
		case e.silence(n) != "":
			quiet = append(quiet, n)
		}
	}
	named := func(n Node) string { return n.Name + " (" + e.standing(n) + ")" }
	var lines []string
	if len(behind) > 0 {
		lines = append(lines, fmt.Sprintf("%d node(s) do not serve what pods may need: %s", len(behind), nodeList(behind, named)))
	}
	if len(quiet) > 0 {
		lines = append(lines, fmt.Sprintf("%d node(s) are not heard: %s", len(quiet), nodeList(quiet, named)))
	}
	return withLines(strings.Join(lines, "\n"), goneStoresMessage(e.seen.Store))
}

// believedMessage names the nodes for which a switch began anew. One that lies must
// be found.
func (e *evaluation) believedMessage() string {
	var nodes []string
	for _, b := range e.s.Believed {
		if i := slices.IndexFunc(e.seen.Nodes, func(n Node) bool { return n.UID == b.UID }); i >= 0 {
			nodes = append(nodes, fmt.Sprintf("%s (generation %d)", e.seen.Nodes[i].Name, b.Generation))
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	return "Begun anew, because node(s) report what was never published, as after a restore from a backup: " +
		strings.Join(capped(nodes, mostNodes), ", ")
}
