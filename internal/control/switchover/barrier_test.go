package switchover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

func TestExclusions(t *testing.T) {
	t.Parallel()
	down := func(n *Node) { n.Ready, n.NotReadyFor = false, time.Minute }
	for name, c := range map[string]struct {
		nodes, controlPlane int
		edit                func(nodes []Node)
		stored              []Exclusion
		want, tooMany       string
	}{
		"nobody":                      {nodes: 3, controlPlane: 1, edit: func([]Node) {}},
		"one of three":                {nodes: 3, controlPlane: 1, edit: func(n []Node) { down(&n[2]) }, want: "n02"},
		"not for long":                {nodes: 3, controlPlane: 1, edit: func(n []Node) { n[2].Ready, n[2].NotReadyFor = false, 59*time.Second }},
		"two of three":                {nodes: 3, controlPlane: 1, edit: func(n []Node) { down(&n[1]); down(&n[2]) }, want: "n01", tooMany: "n02"},
		"a tenth":                     {nodes: 30, controlPlane: 3, edit: func(n []Node) { down(&n[9]); down(&n[8]); down(&n[7]); down(&n[6]) }, want: "n06 n07 n08", tooMany: "n09"},
		"the control plane":           {nodes: 3, controlPlane: 1, edit: func(n []Node) { down(&n[0]) }, tooMany: "n00"},
		"one of two":                  {nodes: 30, controlPlane: 2, edit: func(n []Node) { down(&n[0]) }, tooMany: "n00"},
		"one of three control planes": {nodes: 30, controlPlane: 3, edit: func(n []Node) { down(&n[0]) }, want: "n00"},
		"two of three control planes": {nodes: 30, controlPlane: 3, edit: func(n []Node) { down(&n[0]); down(&n[1]) }, want: "n00", tooMany: "n01"},
		"two of five control planes":  {nodes: 30, controlPlane: 5, edit: func(n []Node) { down(&n[0]); down(&n[1]); down(&n[2]) }, want: "n00 n01", tooMany: "n02"},
		"with a restart approval": {nodes: 3, controlPlane: 1, edit: func(n []Node) {
			down(&n[2])
			n[2].ApprovedRestart = "r"
			n[2].Report = Report{UID: "u02", Restart: Restart{ID: "r", Phase: RestartRunning}}
		}},
		"without agent":               {nodes: 3, controlPlane: 1, edit: func(n []Node) { down(&n[2]); n[2].Agent = false }},
		"by the operator, beyond all": {nodes: 3, controlPlane: 1, edit: func(n []Node) { n[0].Exclude = true; n[1].Exclude = true; down(&n[2]) }, want: "n00 n01 n02"},
		"stored, by a controller that just started": {nodes: 3, controlPlane: 1, edit: func(n []Node) { n[2].Ready = false },
			stored: []Exclusion{{Node: "n02", UID: "u02", Generation: 7}}, want: "n02"},
		"stored first": {nodes: 3, controlPlane: 1, edit: func(n []Node) { down(&n[1]); n[2].Ready = false },
			stored: []Exclusion{{Node: "n02", UID: "u02", Generation: 7}}, want: "n02", tooMany: "n01"},
		"stored, and Ready again": {nodes: 3, controlPlane: 1, edit: func([]Node) {}, stored: []Exclusion{{Node: "n02", UID: "u02"}}},
		"stored, and another node now": {nodes: 3, controlPlane: 1, edit: func(n []Node) { n[2].Ready = false },
			stored: []Exclusion{{Node: "n02", UID: "old"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var nodes []Node
			for i := range c.nodes {
				nodes = append(nodes, Node{Name: fmt.Sprintf("n%02d", i), UID: fmt.Sprintf("u%02d", i), Ready: true, Agent: true, ControlPlane: i < c.controlPlane})
			}
			c.edit(nodes)
			slices.Reverse(nodes)
			e := &evaluation{Protocol: Standard(), seen: Observed{Settings: DefaultSettings(), Nodes: nodes}, s: State{Target: Target{Mode: Direct}, Excluded: c.stored}}
			e.exclude()
			var got []string
			for _, e := range e.s.Excluded {
				got = append(got, e.Node)
			}
			if strings.Join(got, " ") != c.want || strings.Join(e.tooMany, " ") != c.tooMany {
				t.Errorf("excluded %v, too many %v; want %q, %q", got, e.tooMany, c.want, c.tooMany)
			}
		})
	}
}

func TestBarrier(t *testing.T) {
	t.Parallel()
	good := Node{Name: "good", UID: "g", BootID: "b", Ready: true, Agent: true, Report: Report{UID: "g", BootID: "b", Generation: 7}}
	other := func(edit func(*Node)) Node {
		n := good
		n.Name, n.UID, n.Report.UID = "other", "o", "o"
		edit(&n)
		return n
	}
	for name, c := range map[string]struct {
		node Node
		want bool
	}{
		"serves it":            {other(func(*Node) {}), true},
		"serves a later one":   {other(func(n *Node) { n.Report.Generation = 9 }), true},
		"says too much":        {other(func(n *Node) { n.Report.Generation = 10 }), false},
		"serves an older one":  {other(func(n *Node) { n.Report.Generation = 6 }), false},
		"silent":               {other(func(n *Node) { n.Report = Report{} }), false},
		"rebooted":             {other(func(n *Node) { n.BootID = "b2" }), false},
		"another node by now":  {other(func(n *Node) { n.UID = "new" }), false},
		"joins":                {other(func(n *Node) { n.Report = Report{}; n.Tainted, n.Joining = true, true }), true},
		"joins, and reported":  {other(func(n *Node) { n.Report.Generation = 1; n.Tainted, n.Joining = true, true }), false},
		"lost its report":      {other(func(n *Node) { n.Report = Report{}; n.Tainted = true }), false},
		"new, not yet tainted": {other(func(n *Node) { n.Report = Report{}; n.New = true }), false},
		"re-imaged, tainted":   {other(func(n *Node) { n.BootID = "b2"; n.Tainted = true }), false},
		"no agent wanted":      {other(func(n *Node) { n.Report = Report{}; n.Agent = false }), true},
		"just became NotReady": {other(func(n *Node) { n.Report = Report{}; n.Ready = false }), false},
	} {
		e := &evaluation{Protocol: Standard(), seen: Observed{Nodes: []Node{good, c.node}, Settings: DefaultSettings()}, s: State{SafeGeneration: 5, Desired: Desired{Layout: layout.Layout{Generation: 9}}}}
		if got := e.barrier(7); got.done != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	e := &evaluation{Protocol: Standard(), s: State{SafeGeneration: 5}}
	if e.barrier(0).done {
		t.Error("a cluster without nodes, as an empty cache shows it, satisfies the barrier")
	}
}

func TestTainted(t *testing.T) {
	t.Parallel()
	node := func(name string, generation int64, tainted bool) Node {
		return Node{Name: name, UID: name, BootID: "b", Agent: true, Tainted: tainted, Report: Report{UID: name, BootID: "b", Generation: generation}}
	}
	rebooted, windows := node("rebooted", 7, false), node("windows", 0, false)
	rebooted.BootID, windows.Agent = "b2", false
	// The target has not answered to them; it may wait for them.
	opens, opensLess, lies := node("opens", 0, true), node("opens less", 0, true), node("opens more", 0, true)
	opens.Report.Served, opensLess.Report.Served, lies.Report.Served, lies.Report.Generation = 7, 5, 7, 9
	came, joins, wasThere := node("came", 0, false), node("joins", 0, true), node("was there", 0, true)
	came.New, joins.Joining, wasThere.New = true, true, true
	w := Observed{Nodes: []Node{
		node("there", 7, false), node("further", 9, false), node("behind", 4, false), node("silent", 0, false),
		node("on its way", 5, true), node("back", 7, true), node("between", 5, false), rebooted, windows, came, joins, wasThere, opens, opensLess, lies,
	}}
	s := State{SafeGeneration: 5}
	s.Desired.Layout.Generation = 7
	if got := taints(s, w); got != "behind, came joining, further, joins joining, on its way, opens less, opens more, rebooted, silent, was there" {
		t.Errorf("tainted: %s", got)
	}
	// A restored state that knows no proof yet sets nobody free, and taints nobody.
	s.SafeGeneration = 0
	if got := taints(s, w); got != "joins joining, on its way, opens less, opens more, was there" {
		t.Errorf("with nothing proved: %s", got)
	}
	w.Settings.NoTaint = true
	if got := taints(s, w); got != "" {
		t.Errorf("switched off: %v", got)
	}
	if got := taints(State{}, Observed{Nodes: w.Nodes[:4]}); got != "" {
		t.Errorf("before any switch: %v", got)
	}
}

// taints are the nodes that should be tainted, with the values of their taints.
func taints(s State, w Observed) string {
	var all []string
	for name, value := range Standard().Tainted(s, w) {
		all = append(all, strings.TrimSpace(name+" "+value))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// TestALostReport: a node whose report is lost while its agent is dead is waited for
// and named, although our taint keeps pods off it. Without the taint it would run
// the platform's pods, and after Final it could pull none.
func TestALostReport(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]int{"one of three": 1, "all": 3} {
		c := direct(t, 3)
		c.setSpec(Direct, registryB())
		silence := func() {
			for i := range lost {
				n := &c.seen.Nodes[2-i]
				n.Report, n.Tainted = Report{}, true
			}
		}
		for range 10 {
			silence()
			c.step()
		}
		silence()
		c.advance()
		if c.s.Ready() || c.s.Active.Upstream != registryA() {
			t.Fatalf("%s: the switch went on without it:\n%s", name, c.conditions())
		}
		c.has(names.ConditionTransition, "node-02: \"unknown\" → ")
		c.has(names.ConditionTransition, ": its agent has not reported\n")
	}
}

// TestWhoIsBehindIsNamed: after a switch no barrier is waiting, and Ready names who
// does not have what was proved.
func TestWhoIsBehindIsNamed(t *testing.T) {
	t.Parallel()
	c := direct(t, 7)
	nodes := c.seen.Nodes
	nodes[1].Report = Report{}
	nodes[2].Report, nodes[2].Tainted, nodes[2].Joining = Report{}, true, true
	nodes[3].BootID = "next"
	nodes[4].Report.Generation = 99
	nodes[5].Report.Generation, nodes[5].Report.Message = 1, "the disk is full"
	nodes[6].Ready = false
	c.s.Believed = []Belief{{UID: nodes[4].UID, Generation: 9, At: c.seen.Now}}
	c.advance()
	if !c.s.Ready() {
		t.Errorf("who comes or goes later takes Ready away:\n%s", c.conditions())
	}
	c.has(names.ConditionReady, "5 node(s) do not serve what pods may need: node-01 (its agent has not reported), node-02 (joins), "+
		"node-03 (its agent has not reported since the node booted), node-04 (reports generation 99, which was never published), "+
		"node-05 (serves generation 1: the disk is full)")
}

// TestASilentAgentIsNamedAfterTheSwitch: what it reported last is good, so nobody waits for it.
func TestASilentAgentIsNamedAfterTheSwitch(t *testing.T) {
	t.Parallel()
	c := direct(t, 4)
	nodes := c.seen.Nodes
	for i := range nodes {
		nodes[i].Heard = c.seen.Now.Add(-time.Hour)
	}
	nodes[0].Heard = c.seen.Now
	nodes[2].Exclude, nodes[3].Ready = true, false
	c.advance()
	c.has(names.ConditionReady, "1 node(s) are not heard: node-01 (agent silent since "+nodes[1].Heard.UTC().Format(time.RFC3339)+")")
	if !c.s.Ready() {
		t.Errorf("who is silent after a switch takes Ready away:\n%s", c.conditions())
	}
	nodes[1].Heard = c.seen.Now
	c.advance()
	if got := c.message(names.ConditionReady); strings.Contains(got, "heard") {
		t.Errorf("it is back, and Ready says %q", got)
	}
}

// TestASilentNode: one that is Ready is waited for and named; once NotReady it
// is left out and named in Ready's message.
func TestASilentNode(t *testing.T) {
	t.Parallel()
	c := newScene(t, 3)
	silent := &c.seen.Nodes[2]
	c.setSpec(Direct, registryB())
	c.until(names.ConditionTransition)
	quiet := func() { silent.Report = Report{UID: silent.UID, BootID: silent.BootID, Preflight: PreflightReady} }
	for range 3 {
		quiet()
		c.advance()
		c.has(names.ConditionTransition, "node-02")
	}
	silent.Ready, silent.NotReadyFor = false, 2*time.Minute
	for range 10 {
		c.step()
		quiet()
	}
	if !c.s.Ready() {
		t.Fatalf("the switch waits for a node that is away:\n%s", c.conditions())
	}
	if got := c.message(names.ConditionReady); got != "1 node(s) not waited for: node-02" {
		t.Errorf("Ready says %q", got)
	}
	if got := taints(c.s, c.seen); got != "node-02" {
		t.Errorf("tainted: %v", got)
	}
	silent.Ready, silent.NotReadyFor, silent.Tainted = true, 0, true
	c.step()
	if len(c.s.Excluded) != 0 || c.message(names.ConditionReady) != "1 node(s) do not serve what pods may need: node-02 (serves generation 0)" {
		t.Errorf("still left out: %v\n%s", c.s.Excluded, c.conditions())
	}
	c.step()
	if got := taints(c.s, c.seen); got != "" {
		t.Errorf("caught up and tainted: %v", got)
	}
}
