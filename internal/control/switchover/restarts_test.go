package switchover

import (
	"fmt"
	"strings"
	"testing"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/upstream"
)

// asks lets a node ask for a restart, or say how far it is.
func (n *Node) asks(phase RestartPhase) {
	n.Report.Restart = Restart{ID: "of-" + n.UID, Phase: phase}
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	running := func(n *Node) { n.asks(RestartRunning); n.ApprovedRestart = n.Report.Restart.ID }
	failed := func(n *Node) { running(n); n.asks(RestartFailed) }
	for name, c := range map[string]struct {
		edit func(nodes []Node)
		want string
	}{
		"nobody asks":                  {func([]Node) {}, ""},
		"a few at a time":              {func(n []Node) { waits(n, 3, 4, 5, 6) }, "n3 n4 n5"},
		"the control plane last":       {func(n []Node) { waits(n, 0, 1, 3) }, "n0 n3"},
		"the control plane one by one": {func(n []Node) { waits(n, 0, 1, 2) }, "n0"},
		"one of it runs":               {func(n []Node) { running(&n[2]); waits(n, 0, 1, 3) }, "n2 n3"},
		"all places taken":             {func(n []Node) { running(&n[3]); running(&n[4]); running(&n[5]); waits(n, 6) }, "n3 n4 n5"},
		"one place left":               {func(n []Node) { running(&n[3]); running(&n[4]); waits(n, 5, 6) }, "n3 n4 n5"},
		"approved, not yet begun":      {func(n []Node) { waits(n, 3, 4, 5, 6); n[6].ApprovedRestart = "of-u6" }, "n3 n4 n6"},
		"approved for something else":  {func(n []Node) { waits(n, 3); n[3].ApprovedRestart = "of-old" }, "n3"},
		"used":                         {func(n []Node) { n[3].ApprovedRestart = "of-u3" }, ""},
		"one failed":                   {func(n []Node) { running(&n[3]); failed(&n[4]); waits(n, 5, 6) }, "n3 n4"},
		"one says so, unapproved":      {func(n []Node) { running(&n[3]); n[4].asks(RestartFailed); waits(n, 5, 6) }, "n3 n5 n6"},
		"some say that they run":       {func(n []Node) { n[3].asks(RestartRunning); n[4].asks(RestartRunning); waits(n, 5, 6) }, "n5 n6"},
		"it failed and is repaired":    {func(n []Node) { waits(n, 4, 5); n[4].ApprovedRestart = "before the repair" }, "n4 n5"},
		"it failed and is left out":    {func(n []Node) { failed(&n[4]); n[4].Exclude = true; waits(n, 5) }, "n5"},
		"it failed and was replaced":   {func(n []Node) { failed(&n[4]); n[4].UID = "new"; waits(n, 5) }, "n5"},
		"away with its place":          {func(n []Node) { running(&n[3]); n[3].Ready = false; n[3].BootID = "b2"; waits(n, 4, 5, 6) }, "n3 n4 n5"},
		"not ready":                    {func(n []Node) { waits(n, 3, 4); n[3].Ready = false }, "n4"},
		"from before a boot":           {func(n []Node) { waits(n, 3, 4); n[3].BootID = "b2" }, "n4"},
		"excluded":                     {func(n []Node) { waits(n, 3, 4); n[3].Exclude = true }, "n4"},
		"without agent":                {func(n []Node) { waits(n, 3, 4); n[3].Agent = false }, "n4"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := direct(t, 7)
			for i := range s.seen.Nodes {
				n := &s.seen.Nodes[i]
				n.Name, n.UID, n.Report.UID, n.ControlPlane = fmt.Sprint("n", i), fmt.Sprint("u", i), fmt.Sprint("u", i), i < 3
			}
			s.advance()
			c.edit(s.seen.Nodes)
			s.advance()
			if got := approvals(s.s); got != c.want {
				t.Errorf("approved %q, want %q", got, c.want)
			}
			for _, a := range s.s.Desired.Restarts {
				if a.ID != "of-"+a.UID {
					t.Errorf("%+v", a)
				}
			}
			again := s.p.Advance(s.s, s.seen)
			if got := approvals(again); got != c.want {
				t.Errorf("a second look approves %q, want %q", got, c.want)
			}
			if !s.s.Ready() {
				t.Error("a node that came later takes Ready away")
			}
		})
	}
}

func waits(nodes []Node, which ...int) {
	for _, i := range which {
		nodes[i].asks(RestartWaiting)
	}
}

func approvals(s State) string {
	var got []string
	for _, a := range s.Desired.Restarts {
		got = append(got, a.Node)
	}
	return strings.Join(got, " ")
}

// TestRestartsInASwitch: nobody is approved before a layout is published, the
// message tells who is, who waits and who failed, and that is where it stops.
func TestRestartsInASwitch(t *testing.T) {
	t.Parallel()
	c := newScene(t, 4)
	c.seen.Settings.RestartsAtOnce = 1
	c.setSpec(Direct, registryB())
	for i := range c.seen.Nodes {
		c.seen.Nodes[i].asks(RestartWaiting)
	}
	c.seen.Nodes[0].Report.Preflight = PreflightCustom
	c.until(names.ConditionPreflight)
	if c.step(); approvals(c.s) != "" {
		t.Error("approved, although no node is to be changed yet")
	}
	c.seen.Nodes[0].Report.Preflight = PreflightReady
	for range 3 {
		c.checked()
		c.advance()
	}
	c.has(names.ConditionTransition, "containerd restarts: 1 of 4 nodes: node-01 (approved); waiting: node-00, node-02, node-03\n")
	c.seen.Nodes[1].asks(RestartRunning)
	c.advance()
	c.has(names.ConditionTransition, "containerd restarts: 1 of 4 nodes: node-01 (Running); waiting: node-00, node-02, node-03\n")
	c.seen.Nodes[1].Report.Restart.Phase = RestartFailed
	c.seen.Nodes[1].Report.Restart.Message = "containerd did not answer\nwithin 60s"
	c.advance()
	c.has(names.ConditionTransition, "containerd restarts have stopped, 1 node(s) failed and are as before:\n"+
		"- node-01: containerd did not answer within 60s\n"+
		"Repair what failed. To go on without a node, or if it lies: kubectl annotate node NAME registry.deckhouse.io/exclude=true\n"+
		"containerd restarts: 0 of 4 nodes; waiting: node-00, node-02, node-03\n")
	if approvals(c.s) != "node-01" {
		t.Errorf("approved %q", approvals(c.s))
	}
	c.seen.Nodes[1].Report.Restart = Restart{ID: "repaired", Phase: RestartWaiting}
	if c.advance(); approvals(c.s) != "node-01" || c.s.Desired.Restarts[0].ID != "repaired" {
		t.Errorf("a repaired node is approved anew: %+v", c.s.Desired.Restarts)
	}
	for i := range c.seen.Nodes {
		c.seen.Nodes[i].Report.Restart = Restart{}
	}
	if c.settle(); approvals(c.s) != "" {
		t.Errorf("approvals are left: %+v", c.s.Desired.Restarts)
	}
}

// TestALostReportKeepsItsPlace: a RegistryNode that is deleted while its node restarts
// frees no place, or one node after the other could be taken down.
func TestALostReportKeepsItsPlace(t *testing.T) {
	t.Parallel()
	c := direct(t, 4)
	c.seen.Settings.RestartsAtOnce = 1
	waits(c.seen.Nodes, 1, 2)
	c.advance()
	c.seen.Nodes[1].Report, c.seen.Nodes[1].ApprovedRestart = Report{}, ""
	if c.advance(); approvals(c.s) != "node-01" {
		t.Errorf("approved %q", approvals(c.s))
	}
	c.seen.Nodes[1].UID = "replaced"
	if c.advance(); approvals(c.s) != "node-02" {
		t.Errorf("a node that is gone keeps a place: %q", approvals(c.s))
	}
}

// TestRestartsOnTheWayToLegacy: they are approved there too.
func TestRestartsOnTheWayToLegacy(t *testing.T) {
	t.Parallel()
	c := back(t, 2)
	c.seen.Published = Published{}
	if c.s = c.p.Advance(c.s, c.seen); !c.s.Desired.Legacy {
		t.Fatalf("no order:\n%s", c.conditions())
	}
	waits(c.seen.Nodes, 0, 1)
	c.s = c.p.Advance(c.s, c.seen)
	c.has(names.ConditionFinal, "Cleaning Managed configuration...\n0/2 node(s) ready. Waiting:\n")
	c.has(names.ConditionFinal, "containerd restarts: 2 of 2 nodes: node-00 (approved), node-01 (approved)\n")
	if c.s.Ready() {
		t.Error("Ready with nodes on their way")
	}
	for i := range c.seen.Nodes {
		c.seen.Nodes[i].Report.Restart, c.seen.Nodes[i].Report.Legacy, c.seen.Nodes[i].Report.Generation = Restart{}, true, 0
	}
	c.s = c.p.Advance(c.s, c.seen)
	if !c.s.Ready() || approvals(c.s) != "" || c.s.Active.Mode != Unmanaged || c.s.Target.Mode != Unmanaged {
		t.Errorf("%+v\n%s", c.s.Desired, c.conditions())
	}
	// A later switch looks at the nodes' own configurations again.
	c.seen.Nodes[1].Report.Preflight = PreflightCustom
	c.seen.Nodes[1].Report.Message = "/etc/containerd/conf.d/auth.toml:3: plugins.x.registry.configs: it would be lost"
	c.setSpec(Direct, registryB())
	c.checked()
	c.seen.Spec.Upstream = registryB()
	for range 3 {
		c.s = c.p.Advance(c.s, c.seen)
		c.checked()
	}
	c.has(names.ConditionPreflight, "1/2 node(s) Unready:\n- node-01: has custom toml merge containerd configuration: /etc/containerd/conf.d/auth.toml:3: plugins.x.registry.configs: it would be lost\n")
	if !c.s.Desired.Layout.IsZero() {
		t.Error("a layout is published")
	}
}

func TestNodesAreBrief(t *testing.T) {
	t.Parallel()
	c := newScene(t, 14)
	c.setSpec(Direct, upstream.Upstream{Host: "b.example"})
	for i := range c.seen.Nodes {
		c.seen.Nodes[i].Report.Preflight, c.seen.Nodes[i].Report.Message = PreflightCustom, strings.Repeat("ж\n", 5000)
	}
	c.checked()
	c.until(names.ConditionPreflight)
	c.step()
	got := c.message(names.ConditionPreflight)
	if len(got) > 11000 || strings.Count(got, "\n") != 13 || !strings.Contains(got, "...and 4 more") {
		t.Errorf("%d bytes, %d lines", len(got), strings.Count(got, "\n"))
	}
}

// TestLiarsMakeTheStateNoLarger: what 5,000 nodes say that they restart, or failed to,
// is no approval, before and after a lost state.
func TestLiarsMakeTheStateNoLarger(t *testing.T) {
	t.Parallel()
	for _, phase := range []RestartPhase{RestartWaiting, RestartRunning, RestartFailed} {
		c := direct(t, 1)
		one := c.seen.Nodes[0]
		for i := range 5000 {
			liar := one
			liar.Name, liar.UID, liar.ControlPlane = fmt.Sprintf("liar-%04d", i), fmt.Sprintf("uid-of-liar-%04d", i), false
			liar.Report.UID = liar.UID
			liar.asks(phase)
			c.seen.Nodes = append(c.seen.Nodes, liar)
		}
		for range 3 {
			c.advance()
		}
		if got := len(c.s.Desired.Restarts); got > c.seen.Settings.RestartsAtOnce {
			t.Errorf("%s: %d approvals", phase, got)
		}
		c.s = State{}
		if c.advance(); len(c.s.Desired.Restarts) > c.seen.Settings.RestartsAtOnce {
			t.Errorf("%s, after a lost state: %d approvals", phase, len(c.s.Desired.Restarts))
		}
	}
}
