package switchover

import (
	"strings"
	"testing"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// pretend is a mode that does not exist: the fixed address without a proxy.
const pretend Mode = "Pretend"

func withPretend() Protocol {
	p := Standard()
	p.modes[pretend] = modeRow{
		fixedAddress: true,
		plan: []step{
			{name: names.ConditionImages, do: haveImages},
			{name: names.ConditionTransition, do: nodesKnowOldAndNew},
			{name: names.ConditionSwitch, do: platformUsesNew},
			{name: names.ConditionFinal, do: nodesKnowOnlyNew},
			{name: names.ConditionCleanup, do: proxyIsGone},
		},
	}
	return p
}

// TestANewModeIsOneRow: with no more than a row a cluster switches to the mode,
// from it and back, with all that every switch promises.
func TestANewModeIsOneRow(t *testing.T) {
	t.Parallel()
	c := newScene(t, 2)
	c.p = withPretend()
	for _, to := range []Target{{Direct, registryA()}, {pretend, registryB()}, {Unmanaged, registryB()}, {pretend, registryA()}, {Direct, registryB()}} {
		u := to.Upstream
		if to.Mode == Unmanaged {
			u = upstream.Upstream{} // that of the mode before
		}
		c.setSpec(to.Mode, u)
		c.step()
		c.settle()
		want := c.s.Desired
		if c.s.Active != to || want.Workloads != c.p.nameOf(to) || want.Proxy != (to.Mode == Direct) {
			t.Fatalf("%s: active %v, workloads %v, proxy %v", to.Mode, c.s.Active, want.Workloads, want.Proxy)
		}
		if fixed := want.Workloads == layout.Fixed(); fixed == want.Registry.IsZero() {
			t.Errorf("%s: Secret deckhouse-registry should say %v", to.Mode, want.Registry)
		}
		if l := want.Layout; l.ImagesBase() != want.Workloads || len(l.Upstreams()) != 1 {
			t.Errorf("%s: images base %v, upstreams %v", to.Mode, l.ImagesBase(), l.Upstreams())
		}
		c.seen.Installation = upstream.Upstream{}
	}
	c.setSpec(pretend, registryA())
	c.settle()
	c.setSpec(Direct, registryB())
	c.seen.Check = CheckReport{}
	c.advance()
	c.setSpec(pretend, registryA())
	if c.advance(); !c.s.Ready() {
		t.Errorf("nothing was published, and the way back takes more than one pass:\n%s", c.conditions())
	}
}

// TestReadersOfALayoutKnowWhatTheRowsSay: a node has no rows.
func TestReadersOfALayoutKnowWhatTheRowsSay(t *testing.T) {
	t.Parallel()
	for mode := range withPretend().modes {
		target := Target{mode, registryA()}
		l := layout.Layout{Mode: string(mode), Target: target.Upstream}
		if want := withPretend().nameOf(target); l.ImagesBase() != want {
			t.Errorf("%s: readers take %v for the base, the row says %v", mode, l.ImagesBase(), want)
		}
	}
}

// TestAnUnknownModeIsRefusedByName wherever it comes from: nothing changes.
func TestAnUnknownModeIsRefusedByName(t *testing.T) {
	t.Parallel()
	const message = "The stored state or the published layout has mode \"Pretend\", which this program does not know: it was written by a newer version. Nothing is changed."
	for name, c := range map[string]struct {
		edit    func(*scene)
		message string
	}{
		"asked for":        {func(c *scene) { c.setSpec(pretend, registryB()) }, `ModuleConfig deckhouse: Unknown registry mode: "Pretend".`},
		"stored":           {func(c *scene) { c.s.Target.Mode = pretend }, message},
		"active":           {func(c *scene) { c.s.Active.Mode = pretend }, message},
		"published, lost":  {func(c *scene) { c.s = State{}; c.seen.Published.Layout.Mode = string(pretend) }, message},
		"was active, lost": {func(c *scene) { c.s = State{}; c.seen.Published.Layout.ActiveMode = string(pretend) }, message},
	} {
		s := direct(t, 2)
		c.edit(s)
		before, published := s.s, s.seen.Published.Layout
		s.advance()
		if !strings.Contains(s.message(names.ConditionReady), c.message) {
			t.Errorf("%s: %s", name, s.conditions())
		}
		if s.s.Target != before.Target || !sameDesired(s.s.Desired, before.Desired) || s.s.Generation != before.Generation || !s.seen.Published.Layout.SameContent(published) {
			t.Errorf("%s: something changed: %+v", name, s.s)
		}
	}
}
