package switchover

import (
	"testing"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestFinalWaitsForItsOwnLayout: Final is done when nodes serve the layout without the
// old registry, not when they serve the union before it.
func TestFinalWaitsForItsOwnLayout(t *testing.T) {
	t.Parallel()
	c := atFinal(t)
	c.looks()
	if c.advance(); c.s.Finalized == 0 {
		t.Fatalf("nothing was taken away:\n%s", c.conditions())
	}
	c.seen.Census.Live = false
	for range 3 {
		if c.advance(); c.s.passed(names.ConditionFinal) || c.s.Ready() {
			t.Fatalf("nodes serve the union, and Final is done:\n%s", c.conditions())
		}
		c.has(names.ConditionFinal, "0/2 node(s) ready")
	}
	c.report()
	if c.advance(); !c.s.passed(names.ConditionFinal) {
		t.Errorf("nodes serve it, and Final waits:\n%s", c.conditions())
	}
}

// TestNobodyIsTaintedAfterTheWayBack: nodes in the legacy format have no layout to prove,
// and pods must be able to run on them.
func TestNobodyIsTaintedAfterTheWayBack(t *testing.T) {
	t.Parallel()
	c := back(t, 2)
	c.seen.Published = Published{}
	if c.s = c.p.Advance(c.s, c.seen); !c.s.Desired.Legacy || c.s.SafeGeneration != 0 {
		t.Fatalf("no order, or something is still proved: %d\n%s", c.s.SafeGeneration, c.conditions())
	}
	for i := range c.seen.Nodes {
		c.seen.Nodes[i].Report.Legacy, c.seen.Nodes[i].Report.Generation = true, 0
	}
	if got := taints(c.s, c.seen); got != "" {
		t.Errorf("tainted: %s", got)
	}
}

// TestTheSecretIsOursOnceThePlatformMoves: in Unmanaged the user moves the cluster by
// deckhouse-registry, until a switch has begun to write it. What is in it then is not a
// wish.
func TestTheSecretIsOursOnceThePlatformMoves(t *testing.T) {
	t.Parallel()
	c := back(t, 1)
	c.seen.Installation = registryB()
	c.advance()
	if c.s.Target.Upstream != registryB() {
		t.Fatalf("the edit is not followed: %v", c.s.Target)
	}
	for range 30 {
		if !c.s.Desired.Registry.IsZero() {
			break
		}
		c.step()
	}
	other := upstream.Upstream{Host: "c.example", Scheme: upstream.HTTPS}
	c.seen.Installation = other
	if c.advance(); c.s.Target.Upstream != registryB() || c.s.Desired.Registry.Upstream != registryB() {
		t.Errorf("what is ours was taken for a wish: %v, %v", c.s.Target, c.s.Desired.Registry)
	}
}

// TestWhoComesBeforeAnythingIsProvedCounts: in the first switch there is no taint that
// could keep pods off a node, whatever its Node says.
func TestWhoComesBeforeAnythingIsProvedCounts(t *testing.T) {
	t.Parallel()
	c := newScene(t, 3)
	c.seen.Nodes[2].Report, c.seen.Nodes[2].Tainted, c.seen.Nodes[2].Joining = Report{}, true, true
	e := &evaluation{Protocol: Standard(), seen: c.seen}
	for safe, want := range map[int64]bool{0: true, 5: false} {
		if e.s.SafeGeneration = safe; e.counts(c.seen.Nodes[2]) != want {
			t.Errorf("with generation %d proved it counts: %t", safe, !want)
		}
	}
}
