package switchover

import "github.com/d8-registry/registry/internal/layout"

// Reads is the highest schema of a layout that everybody reads who routes by one, as
// they say. Who has not spoken yet is not asked, or each node that joins would change
// what all others are given: what it cannot read it says, and keeps what it has. Nor
// is a node that barriers may go without.
func (p Protocol) Reads(s State, seen Observed) int {
	e := p.evaluate(s, seen)
	reads := layout.Newest
	if seen.Proxy.Reads > 0 {
		reads = min(reads, seen.Proxy.Reads)
	}
	for _, n := range seen.Nodes {
		away := !n.Ready && n.NotReadyFor >= seen.Settings.NotReadyFor
		if n.Agent && !n.Exclude && !away && !e.excluded(n) && n.Report.UID != "" && n.Report.UID == n.UID {
			reads = min(reads, max(n.Report.Reads, layout.Schema))
		}
	}
	return reads
}
