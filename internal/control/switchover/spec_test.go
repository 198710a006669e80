package switchover

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

func TestFreshUnmanagedPublishesNothing(t *testing.T) {
	t.Parallel()
	c := newScene(t, 2)
	c.settle()
	want := c.s.Desired
	if !want.Layout.IsZero() || len(want.PullSecrets) != 0 || !want.Registry.IsZero() || want.Proxy || want.Repoint || Standard().Tainted(c.s, c.seen) != nil {
		t.Errorf("wanted: %+v", want)
	}
	if c.s.Active != (Target{Mode: Unmanaged, Upstream: registryA()}) || want.Own != registryA() {
		t.Errorf("active %v, own %v", c.s.Active, want.Own)
	}
	c.want(`
RegistryContainsRequiredImages True "Ready" "a.example: all 157 items are checked"
TransitionContainerdConfigReady True "" ""
DeckhouseRegistrySwitchReady True "" ""
FinalContainerdConfigReady True "" ""
CleanupInClusterProxy True "" ""
Ready True "" ""
`)
}

func TestRevertBeforeAnythingIsPublished(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*scene{"Unmanaged": newScene(t, 2), "Direct": direct(t, 2)} {
		c.settle()
		before, spec := c.s, c.seen.Spec
		if spec.Mode == "" {
			spec.Mode = Unmanaged
		}
		c.setSpec(Direct, registryB())
		c.seen.Check = CheckReport{Problem: "401 Unauthorized"}
		c.advance()
		if c.s.Ready() || !sameLayout(c.s, before) {
			t.Fatalf("%s: a check that fails changes what is published", name)
		}
		if name == "Unmanaged" && c.s.Desired.Registry != before.Active {
			t.Errorf("deckhouse-registry is not ours during a switch: %v", c.s.Desired.Registry)
		}
		c.seen.Spec = spec
		c.advance()
		if !c.s.Ready() || !sameLayout(c.s, before) || c.s.Active != before.Active || c.s.Generation <= before.Generation {
			t.Errorf("%s: the way back takes more than one pass:\n%s", name, c.conditions())
		}
		if name == "Unmanaged" && !c.s.Desired.Registry.IsZero() {
			t.Error("deckhouse-registry is not the user's again")
		}
	}
}

func sameLayout(a, b State) bool {
	return a.Desired.Layout.Generation == b.Desired.Layout.Generation && a.Desired.Layout.SameContent(b.Desired.Layout)
}

// TestRevertAtEachStep: whatever was reached, the way back ends where it began
// and loses nothing on the way.
func TestRevertAtEachStep(t *testing.T) {
	t.Parallel()
	// The others wait for nothing here: see TestRandomUsers.
	for _, step := range []string{names.ConditionImages, names.ConditionTransition, names.ConditionSwitch, names.ConditionFinal} {
		c := direct(t, 2)
		c.setSpec(Direct, registryB())
		c.until(step)
		union := c.s.Desired.Layout
		c.setSpec(Direct, registryA())
		c.step()
		if shrunk := c.s.Desired.Shrunk; !c.s.Desired.Layout.Covers(union) {
			t.Errorf("at %s: the way back begins with less (%d): %v", step, shrunk, c.s.Desired.Layout.Routes)
		}
		c.settle()
		for _, u := range c.s.Desired.Layout.Upstreams() {
			if u != registryA() {
				t.Errorf("at %s: %v is left", step, u)
			}
		}
	}
}

func TestAnAbsentSpecChangesNothing(t *testing.T) {
	t.Parallel()
	c := direct(t, 1)
	before := c.s
	c.seen.Spec = Spec{Problem: "ModuleConfig deckhouse is missing: the last settings hold"}
	c.advance()
	if !c.s.Ready() || c.s.Target != before.Target || c.s.Generation != before.Generation {
		t.Errorf("an absent spec changed something:\n%s", c.conditions())
	}
	if got := c.message(names.ConditionReady); got != c.seen.Spec.Problem {
		t.Errorf("Ready says %q", got)
	}
}

func TestUserChangesTheInstallationsRegistry(t *testing.T) {
	t.Parallel()
	c := newScene(t, 2)
	c.settle()
	rotated := registryA()
	rotated.Credentials = upstream.Credentials{Username: "u", Password: "new"}
	c.seen.Installation = rotated
	c.seen.Check = CheckReport{}
	c.advance()
	if c.s.Ready() || c.s.Active.Upstream != registryA() {
		t.Errorf("recorded before it was checked:\n%s", c.conditions())
	}
	c.settle()
	if c.s.Active.Upstream != rotated || !c.s.Desired.Layout.IsZero() || !slices.Equal(c.s.Desired.Bootstrap, []upstream.Upstream{rotated}) {
		t.Errorf("active %#v, wanted %+v", c.s.Active, c.s.Desired)
	}

	// After a switch the nodes must hear of it, in the usual steps.
	c = back(t, 2)
	generation := c.s.Desired.Layout.Generation
	c.seen.Installation = rotated
	c.settle()
	if ups := c.s.Desired.Layout.Upstreams(); len(ups) != 1 || ups[0] != rotated || c.s.Desired.Layout.Generation <= generation {
		t.Errorf("nodes have %v", ups)
	}
	if !slices.Equal(c.s.Desired.PullSecrets, []Target{{Mode: Unmanaged, Upstream: rotated}}) {
		t.Errorf("pull secrets %v", c.s.Desired.PullSecrets)
	}
}

func TestLegacyFormat(t *testing.T) {
	t.Parallel()
	c := back(t, 2)
	c.seen.Published = Published{}
	c.advance()
	if !c.s.Desired.Legacy || !c.s.Desired.Layout.IsZero() {
		t.Fatalf("no order to go back: %+v", c.s.Desired)
	}
	if final := c.s.condition(names.ConditionFinal); final.Status != metav1.ConditionFalse || !strings.Contains(final.Message, "→ Unmanaged") {
		t.Errorf("Final is %v", final)
	}
	if c.message(names.ConditionReady) != "Transitioning to Unmanaged" {
		t.Errorf("Ready says %q", c.message(names.ConditionReady))
	}
	for i := range c.seen.Nodes {
		c.seen.Nodes[i].Report.Legacy, c.seen.Nodes[i].Report.Generation = true, 0
	}
	if c.advance(); !c.s.Ready() || !c.s.Desired.Layout.IsZero() {
		t.Errorf("after all are back:\n%s", c.conditions())
	}

	// And forward again: generations go on where they were.
	generation := c.s.Generation
	c.setSpec(Direct, registryB())
	c.settle()
	if c.s.Desired.Legacy || c.s.Desired.Layout.Generation <= generation {
		t.Errorf("wanted %+v", c.s.Desired)
	}
}

func TestTheLayoutComesBack(t *testing.T) {
	t.Parallel()
	kept := back(t, 1)
	kept.seen.Census.References = append(kept.seen.Census.References, Reference{Name: layout.Fixed(), Image: "x:1", User: "Deployment d8-b/flux"})
	kept.s.Bases = withNames(kept.s.Bases, layout.Fixed())
	kept.s.Desired.Layout.Routes = layout.Cross(kept.s.Bases, []upstream.Upstream{registryA()})
	kept.seen.Census.Live = true
	for name, c := range map[string]*scene{"in Direct": direct(t, 1), "with a name that is still in use": kept} {
		before := c.s
		c.seen.Published = Published{}
		c.seen.Now = c.seen.Now.Add(-10 * time.Minute)
		c.advance()
		if c.s.Desired.Legacy || !sameLayout(c.s, before) {
			t.Errorf("%s: a deleted Secret changed %v to %v", name, before.Desired.Layout.Routes, c.s.Desired.Layout.Routes)
		}
	}
}

// TestOldRevisionsDoNotKeepTheLayout: a name that only revisions have, from
// which nothing runs, does not outweigh the user's order. Nothing is decided on
// a look that may be old.
func TestOldRevisionsDoNotKeepTheLayout(t *testing.T) {
	t.Parallel()
	c := back(t, 1)
	c.seen.Census.References = append(c.seen.Census.References,
		Reference{Name: layout.Fixed(), Image: "x:1", User: "ReplicaSet d8-b/grafana-1", Retained: true})
	c.s.Bases = withNames(c.s.Bases, layout.Fixed())
	c.s.Desired.Layout.Routes = layout.Cross(c.s.Bases, []upstream.Upstream{registryA()})
	c.seen.Published = Published{}
	c.seen.Now = c.seen.Now.Add(-10 * time.Minute) // names are not due
	c.seen.Census.Live = false
	if !c.p.NeedsLive(c.s, c.seen) {
		t.Error("no close look is asked for")
	}
	if unsure := c.p.Advance(c.s, c.seen); unsure.Desired.Legacy {
		t.Error("decided on an old look")
	}
	c.seen.Census.Live, c.seen.Census.Problem = true, "Deployment d8-b/x was not yet observed by its controller"
	if unsure := c.p.Advance(c.s, c.seen); unsure.Desired.Legacy {
		t.Error("decided on an incomplete look")
	}
	c.seen.Census.Problem = ""
	if c.advance(); !c.s.Desired.Legacy {
		t.Error("the order was not obeyed")
	}
}

func TestSpecHash(t *testing.T) {
	t.Parallel()
	a := Spec{Mode: Direct, Upstream: registryB()}
	b := a
	b.Upstream.Credentials.Password = "other"
	if a.Hash() == b.Hash() || a.Hash() == (Spec{Mode: Unmanaged}).Hash() || len(a.Hash()) != 64 {
		t.Error("different specs, same hash")
	}
	if (Spec{Problem: "x"}).Hash() != "" {
		t.Error("what cannot be followed has a hash")
	}
}
