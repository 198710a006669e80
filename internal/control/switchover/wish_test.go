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
	if !want.Layout.IsZero() || len(want.PullSecrets) != 0 || !want.Registry.IsZero() || want.Proxy || want.Repoint || Tainted(c.s, c.w) != nil {
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
		before, wish := c.s, c.w.Spec
		if wish.Mode == "" {
			wish.Mode = Unmanaged
		}
		c.wish(Direct, registryB())
		c.w.Check = CheckReport{Problem: "401 Unauthorized"}
		c.advance()
		if c.s.Ready() || !sameLayout(c.s, before) {
			t.Fatalf("%s: a check that fails changes what is published", name)
		}
		if name == "Unmanaged" && c.s.Desired.Registry != before.Active {
			t.Errorf("deckhouse-registry is not ours during a switch: %v", c.s.Desired.Registry)
		}
		c.w.Spec = wish
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
		c.wish(Direct, registryB())
		c.until(step)
		union := c.s.Desired.Layout
		c.wish(Direct, registryA())
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

func TestAnAbsentWishIsNoWish(t *testing.T) {
	t.Parallel()
	c := direct(t, 1)
	before := c.s
	c.w.Spec = Spec{Problem: "ModuleConfig deckhouse is missing: the last settings hold"}
	c.advance()
	if !c.s.Ready() || c.s.Target != before.Target || c.s.Generation != before.Generation {
		t.Errorf("an absent wish changed something:\n%s", c.conditions())
	}
	if got := c.message(names.ConditionReady); got != c.w.Spec.Problem {
		t.Errorf("Ready says %q", got)
	}
}

func TestUserChangesTheInstallationsRegistry(t *testing.T) {
	t.Parallel()
	c := newScene(t, 2)
	c.settle()
	rotated := registryA()
	rotated.Credentials = upstream.Credentials{Username: "u", Password: "new"}
	c.w.Installation = rotated
	c.w.Check = CheckReport{}
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
	c.w.Installation = rotated
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
	c.w.Published = Published{}
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
	for i := range c.w.Nodes {
		c.w.Nodes[i].Report.Legacy, c.w.Nodes[i].Report.Generation = true, 0
	}
	if c.advance(); !c.s.Ready() || !c.s.Desired.Layout.IsZero() {
		t.Errorf("after all are back:\n%s", c.conditions())
	}

	// And forward again: generations go on where they were.
	generation := c.s.Generation
	c.wish(Direct, registryB())
	c.settle()
	if c.s.Desired.Legacy || c.s.Desired.Layout.Generation <= generation {
		t.Errorf("wanted %+v", c.s.Desired)
	}
}

func TestTheLayoutComesBack(t *testing.T) {
	t.Parallel()
	kept := back(t, 1)
	kept.w.Census.References = append(kept.w.Census.References, Reference{Name: layout.Fixed(), Image: "x:1", User: "Deployment d8-b/flux"})
	kept.s.Bases = withNames(kept.s.Bases, layout.Fixed())
	kept.s.Desired.Layout.Routes = layout.Cross(kept.s.Bases, []upstream.Upstream{registryA()})
	kept.w.Census.Live = true
	for name, c := range map[string]*scene{"in Direct": direct(t, 1), "with a name that is still in use": kept} {
		before := c.s
		c.w.Published = Published{}
		c.w.Now = c.w.Now.Add(-10 * time.Minute)
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
	c.w.Census.References = append(c.w.Census.References,
		Reference{Name: layout.Fixed(), Image: "x:1", User: "ReplicaSet d8-b/grafana-1", Retained: true})
	c.s.Bases = withNames(c.s.Bases, layout.Fixed())
	c.s.Desired.Layout.Routes = layout.Cross(c.s.Bases, []upstream.Upstream{registryA()})
	c.w.Published = Published{}
	c.w.Now = c.w.Now.Add(-10 * time.Minute) // names are not due
	c.w.Census.Live = false
	if !c.p.NeedsLive(c.s, c.w) {
		t.Error("no close look is asked for")
	}
	if unsure := c.p.Advance(c.s, c.w); unsure.Desired.Legacy {
		t.Error("decided on an old look")
	}
	c.w.Census.Live, c.w.Census.Problem = true, "Deployment d8-b/x was not yet observed by its controller"
	if unsure := c.p.Advance(c.s, c.w); unsure.Desired.Legacy {
		t.Error("decided on an incomplete look")
	}
	c.w.Census.Problem = ""
	if c.advance(); !c.s.Desired.Legacy {
		t.Error("the order was not obeyed")
	}
}

func TestWishHash(t *testing.T) {
	t.Parallel()
	a := Spec{Mode: Direct, Upstream: registryB()}
	b := a
	b.Upstream.Credentials.Password = "other"
	if a.Hash() == b.Hash() || a.Hash() == (Spec{Mode: Unmanaged}).Hash() || len(a.Hash()) != 64 {
		t.Error("different wishes, same hash")
	}
	if (Spec{Problem: "x"}).Hash() != "" {
		t.Error("what cannot be followed has a hash")
	}
}
