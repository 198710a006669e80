package switchover

import "slices"

// Unreached are the nodes that have something of ours and no valid report of a
// generation, sorted by name. Barriers go without some of them. What is taken away
// from everybody, as an old password is, waits for these too: they come back.
func Unreached(s State, all []Node, generation int64) []Node {
	e := &evaluation{s: s}
	var unreached []Node
	for _, n := range all {
		if n.Agent && n.Unsupported == "" && (!validReport(n) || !serves(e, n, generation)) {
			unreached = append(unreached, n)
		}
	}
	slices.SortFunc(unreached, byName)
	return unreached
}
