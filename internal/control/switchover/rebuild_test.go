package switchover

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

func TestMayPublish(t *testing.T) {
	t.Parallel()
	of := func(generation int64, ups ...upstream.Upstream) layout.Layout {
		return layout.Layout{Generation: generation, Routes: layout.Cross([]layout.Name{layout.Fixed()}, ups)}
	}
	a, b := registryA(), registryB()
	for name, c := range map[string]struct {
		want   layout.Layout
		shrunk int64
		seen   Published
		err    error
	}{
		"the first":              {want: of(2, a)},
		"unreadable":             {want: of(2, a), seen: Published{Found: true, Problem: "x", Layout: of(9, b)}},
		"more":                   {want: of(3, a, b), seen: Published{Found: true, Layout: of(2, a)}},
		"the same":               {want: of(3, a, b), seen: Published{Found: true, Layout: of(3, a, b)}},
		"older":                  {want: of(3, a, b), seen: Published{Found: true, Layout: of(4, a)}, err: ErrOlder},
		"less":                   {want: of(4, b), seen: Published{Found: true, Layout: of(3, a, b)}, err: ErrShrinks},
		"less, by Final":         {want: of(4, b), shrunk: 4, seen: Published{Found: true, Layout: of(3, a, b)}},
		"less, by a Final since": {want: of(6, b), shrunk: 4, seen: Published{Found: true, Layout: of(3, a, b)}},
		"less, long after Final": {want: of(6, b), shrunk: 4, seen: Published{Found: true, Layout: of(5, a, b)}, err: ErrShrinks},
	} {
		s := State{Desired: Desired{Layout: c.want, Shrunk: c.shrunk}}
		if err := s.MayPublish(Agents, c.seen); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
}

func TestLostStateIsRebuilt(t *testing.T) {
	t.Parallel()
	c := direct(t, 2)
	c.setSpec(Direct, registryB())
	c.until(names.ConditionSwitch)
	before := c.s
	for name, stored := range map[string]State{"lost": {}, "the one from before": direct(t, 2).s} {
		t.Run(name, func(t *testing.T) {
			w := c.seen
			got := Standard().Advance(stored, w)
			union := got.Desired.Layout
			if got.Generation <= before.Generation || !union.Covers(before.Desired.Layout) || got.MayPublish(Agents, w.Published) != nil {
				t.Errorf("rebuilt %d %v from %d %v", got.Generation, union.Routes, before.Generation, before.Desired.Layout.Routes)
			}
			if got.Target != before.Target || got.Active.Upstream != registryA() || !got.Desired.Proxy || got.SafeGeneration != w.Published.Layout.Generation {
				t.Errorf("target %v, active %v, desired %+v", got.Target, got.Active, got.Desired)
			}
			for _, u := range union.Upstreams() {
				if !slices.Contains(got.Desired.PullSecrets, Target{Mode: Unmanaged, Upstream: u}) || !slices.Contains(got.Desired.Bootstrap, u) {
					t.Errorf("credentials of %v are gone", u)
				}
			}
			if got.Ready() || len(got.Passed) != 0 || !slices.Contains(got.Bases, layout.Fixed()) {
				t.Errorf("it goes on as if nothing had happened: %+v", got.Passed)
			}
			again := Standard().Advance(got, w)
			if again.Generation != got.Generation {
				t.Error("it is rebuilt in every pass")
			}
		})
	}
	c.s = State{}
	c.settle()
	if c.s.Desired.Own != registryB() || c.s.Active != c.s.Target {
		t.Errorf("after a lost state: %+v", c.s.Desired)
	}
}

func TestAnAbsentSpecAndALostState(t *testing.T) {
	t.Parallel()
	c := direct(t, 1)
	target := c.s.Target
	c.s, c.seen.Spec = State{}, Spec{Problem: "ModuleConfig deckhouse is missing"}
	c.seen.Installation, c.seen.InstallationProblem = upstream.Upstream{}, "the Secret names the fixed address"
	c.settle()
	if c.s.Target != target {
		t.Errorf("target %v, was %v", c.s.Target, target)
	}
	c.has(names.ConditionReady, "ModuleConfig deckhouse is missing")
}

// TestAnImpossibleGeneration: what one node says neither overflows nor starts
// every switch anew.
func TestAnImpossibleGeneration(t *testing.T) {
	t.Parallel()
	c := direct(t, 2)
	generation := c.s.Generation
	c.seen.Nodes[1].Report.Generation = math.MaxInt64
	if c.advance(); c.s.Generation != generation {
		t.Fatalf("generation %d after an impossible report, was %d", c.s.Generation, generation)
	}
	c.seen.Nodes[1].Report.Generation = generation + 100
	if c.advance(); c.s.Generation != generation+101 {
		t.Fatalf("a higher report is not believed: generation %d", c.s.Generation)
	}
	c.has(names.ConditionReady, "report what was never published, as after a restore from a backup: node-01 (generation "+fmt.Sprint(generation+100)+")")
	for range 3 {
		c.seen.Nodes[1].Report.Generation = c.s.Generation + 1
		if c.advance(); c.s.Generation != generation+101 {
			t.Fatalf("the same node is believed again: generation %d", c.s.Generation)
		}
	}
	// The operator is believed for ever, another node at once, the same one later.
	c.seen.Now = c.s.BelievesAgain()
	c.seen.Nodes[1].Exclude = true
	if c.advance(); c.s.Generation != generation+101 || c.s.Believed != nil {
		t.Fatalf("who is left out by the operator is believed: generation %d, %v", c.s.Generation, c.s.Believed)
	}
	c.seen.Nodes[1].Exclude = false
	if c.advance(); c.s.Generation != generation+103 || len(c.s.Believed) != 1 {
		t.Fatalf("not believed after an hour: generation %d, %v", c.s.Generation, c.s.Believed)
	}
	c.seen.Nodes[0].Report.Ahead = c.s.Generation // which it cannot prove
	if c.advance(); c.s.Generation != generation+105 || len(c.s.Believed) != 2 {
		t.Fatalf("another node is not believed: generation %d, %v", c.s.Generation, c.s.Believed)
	}
}

// TestManyThatLie: together they begin a switch anew no more than ten times in an
// hour, also with a state that is gone.
func TestManyThatLie(t *testing.T) {
	t.Parallel()
	c := direct(t, 30)
	rebuilt, was := 0, c.s.Generation
	for i := range 600 { // ten minutes
		if i == 300 {
			c.seen.Now = c.seen.Now.Add(-48 * time.Hour) // and a clock that was wrong
		}
		c.seen.Nodes[i%30].Report.Generation = c.s.Generation + 7
		if c.advance(); c.s.Generation > was {
			rebuilt++
		}
		was = c.s.Generation
	}
	if rebuilt != 2*mostBelieved || len(c.s.Believed) != mostBelieved {
		t.Errorf("begun anew %d times, %d believed", rebuilt, len(c.s.Believed))
	}
	for i := range c.seen.Nodes {
		c.seen.Nodes[i].Report.Generation = 5
	}
	c.s, c.seen.Published, c.seen.ProxyPublished = State{Generation: 3}, Published{}, Published{}
	c.s = c.p.Advance(c.s, c.seen)
	if len(c.s.Believed) != 1 || c.s.Generation != 7 {
		t.Errorf("a state that is gone, with nothing published: generation %d, %v", c.s.Generation, c.s.Believed)
	}
}

// TestAnyGeneration: a node may report any number. None becomes one that counts, and for
// none that cannot be counted on a switch begins anew.
func TestAnyGeneration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lie   func(*Report)
		meets bool
	}{
		{func(r *Report) { r.Generation = math.MaxInt64 }, false},
		{func(r *Report) { r.Ahead = math.MaxInt64 }, false},
		{func(r *Report) { r.Ahead = math.MaxInt64 - 1 }, false},
		{func(r *Report) { r.Served = math.MaxInt64 }, false},
		{func(r *Report) { r.Generation = math.MinInt64 }, false},
		{func(r *Report) { r.Ahead = math.MinInt64 }, true},
		{func(r *Report) { r.Served = math.MinInt64 }, true},
	} {
		s := direct(t, 3)
		generation := s.s.Generation
		c.lie(&s.seen.Nodes[2].Report)
		for range 3 {
			s.advance()
		}
		meets := s.p.evaluate(s.s, s.seen).barrier(s.s.SafeGeneration).done
		if s.s.Generation != generation || s.s.Believed != nil || meets != c.meets {
			t.Errorf("%+v: generation %d after %d, believed %v, meets a barrier: %t", s.seen.Nodes[2].Report, s.s.Generation, generation, s.s.Believed, meets)
		}
	}
}

// TestWhatMostNodesReportIsBelieved: somebody lied as much as is believed, all nodes were
// led there, and a state of before that was put back.
func TestWhatMostNodesReportIsBelieved(t *testing.T) {
	t.Parallel()
	c := direct(t, 3)
	far := c.s.Generation + maxJump + 9
	c.seen.Nodes[0].Report.Generation = far
	if c.advance(); c.s.Generation >= far {
		t.Fatalf("one alone is believed: generation %d", c.s.Generation)
	}
	c.seen.Nodes[1].Report.Generation = far - 1
	if c.advance(); c.s.Generation <= far {
		t.Errorf("most nodes are at %d, and the state stays at %d", far, c.s.Generation)
	}
}

// TestOurOwnImageKeepsItsName: of a state that was rebuilt before anything was published
// our own workloads pull from the target of then. The user goes on to another one, and
// what they pull is still served.
func TestOurOwnImageKeepsItsName(t *testing.T) {
	t.Parallel()
	c := newScene(t, 3)
	c.setSpec(Direct, registryB())
	c.advance()
	c.seen.Nodes[1].Report.Generation = 1 << 20 // what was never published
	c.advance()
	c.seen.Nodes[1].Report.Generation = 0
	c.checked()
	c.advance()
	own := c.s.Desired.Own
	if own != registryB() || !c.s.Desired.Layout.IsZero() {
		t.Fatalf("own workloads are from %v, and %v is published", own, c.s.Desired.Layout)
	}
	third := registryB()
	third.Host = "c.example.com"
	c.setSpec(Direct, third)
	for c.s.Desired.Layout.IsZero() {
		c.checked()
		c.advance()
	}
	if _, served := c.s.Desired.Layout.Route(layout.NameOf(own)); !served {
		t.Errorf("nobody serves what our own workloads pull: %v", c.s.Desired.Layout.Routes)
	}
}

// TestTwoRestores: a backup that was made soon after a restore is restored. All nodes
// are ahead again, and none of them may pass a barrier by what it had before.
func TestTwoRestores(t *testing.T) {
	t.Parallel()
	c := direct(t, 3)
	for range 2 {
		backup, seen := c.s, c.seen
		seen.Nodes = slices.Clone(c.seen.Nodes)
		c.setSpec(Direct, registryB())
		c.settle()
		ahead := c.seen.Nodes[0].Report.Generation
		seen.Nodes, seen.Now = c.seen.Nodes, backup.NamesChecked.Add(time.Minute)
		c.s, c.seen = backup, seen
		for range 3 { // and agents stay as they are
			c.checked()
			c.looks()
			c.advance()
		}
		if c.s.Generation <= ahead || c.s.Desired.Layout.Generation <= ahead {
			t.Fatalf("nodes are at %d, and %d is wanted", ahead, c.s.Desired.Layout.Generation)
		}
		c.settle()
	}
}

func TestNothingNamesARegistry(t *testing.T) {
	t.Parallel()
	c := newScene(t, 1)
	c.seen.Installation, c.seen.InstallationProblem = upstream.Upstream{}, "Secret deckhouse-registry has no address"
	for range 3 {
		c.advance()
		c.want(`Ready False "Processing" "The registry of this cluster is not known: Secret deckhouse-registry has no address. Nothing is published. ` +
			`Restore that Secret with the real registry's address and credentials, or name the registry in ModuleConfig deckhouse (spec.settings.registry.direct)."`)
		if !c.s.Desired.Layout.IsZero() || !c.s.Desired.Own.IsZero() {
			t.Errorf("something is wanted: %+v", c.s.Desired)
		}
	}
	// The advice helps.
	c.setSpec(Direct, registryB())
	c.seen.Nodes[0].Report.Preflight = ""
	c.step()
	if c.step(); c.s.Desired.Own != registryB() || !slices.Contains(c.s.Desired.Bootstrap, registryB()) {
		t.Errorf("no agent can be made: %+v", c.s.Desired)
	}
	c.seen.Nodes[0].Report.Preflight = PreflightReady
	c.settle()
}

func TestWhatCannotBeReadIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := direct(t, 1)
	newer := c.s
	newer.Schema = 3
	if got := Standard().Advance(newer, c.seen); got.Ready() || got.Schema != 3 || got.Generation != newer.Generation || !sameDesired(got.Desired, newer.Desired) {
		t.Errorf("a newer state is changed: %+v", got)
	}
	c.seen.Published = Published{Found: true, Problem: "schema 2, this program knows 1"}
	got := Standard().Advance(State{}, c.seen)
	if got.Ready() || !got.Target.IsZero() || !got.Desired.Layout.IsZero() {
		t.Errorf("guessed: %+v", got)
	}
	if got := Standard().Advance(c.s, c.seen); !got.Ready() || got.Generation != c.s.Generation {
		t.Error("with a state at hand the unreadable layout is simply written again")
	}
}
