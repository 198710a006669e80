package switchover

import (
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
)

// TestUnreached: nodes that a barrier goes without are waited for too, unless nothing of
// ours is on them.
func TestUnreached(t *testing.T) {
	t.Parallel()
	good := Report{UID: "u", BootID: "b", Generation: 7}
	node := func(name string, change func(*Node)) Node {
		n := Node{Name: name, UID: "u", BootID: "b", Agent: true, Report: good}
		change(&n)
		return n
	}
	var got []string
	s := State{Desired: Desired{Layout: layout.Layout{Generation: 8}}}
	for _, n := range Unreached(s, []Node{
		node("z-new", func(n *Node) { n.Report = Report{} }),
		node("is-there", func(*Node) {}),
		node("is-ahead", func(n *Node) { n.Report.Generation = 8 }),
		node("of a later state", func(n *Node) { n.Report.Generation = 9 }),
		node("a-behind", func(n *Node) { n.Report.Generation = 6 }),
		node("excluded", func(n *Node) { n.Report.Generation, n.Exclude = 6, true }),
		node("rebooted", func(n *Node) { n.BootID = "c" }),
		node("reinstalled", func(n *Node) { n.UID = "v" }),
		node("without agent", func(n *Node) { n.Agent, n.Report = false, Report{} }),
		node("cri-o", func(n *Node) { n.Unsupported, n.Report = "cri-o", Report{} }),
	}, 7) {
		got = append(got, n.Name)
	}
	if want := "a-behind excluded of a later state rebooted reinstalled z-new"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
