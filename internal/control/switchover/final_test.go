package switchover

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// atFinal is a cluster on its way from A to B where only Final is left.
func atFinal(t *testing.T) *scene {
	t.Helper()
	c := newScene(t, 2)
	c.seen.Census.References = append(c.seen.Census.References,
		Reference{Name: layout.NameOf(registryA()), Image: "beta:1", User: "Deployment d8-b/flux"})
	c.setSpec(Direct, registryB())
	for range 30 {
		c.checked()
		c.advance() // without a close look
		c.report()
		c.proxyFollows()
		c.platformFollows()
		if c.s.passed(names.ConditionSwitch) {
			return c
		}
	}
	t.Fatalf("never comes to Final:\n%s", c.conditions())
	return nil
}

func TestFinalLooksFirst(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]struct {
		edit func(*scene)
		want string
	}{
		"no close look":      {func(c *scene) { c.seen.Census.Live = false }, "Looking for images in use"},
		"incomplete":         {func(c *scene) { c.seen.Census.Problem = "list pods: forbidden" }, "list pods: forbidden"},
		"a node rebooted":    {func(c *scene) { c.seen.Nodes[1].BootID = "b2" }, "node-01"},
		"no check":           {func(c *scene) { c.seen.Check = CheckReport{} }, "Initializing"},
		"an image is absent": {func(c *scene) { c.seen.Check.FailureCount = 1; c.seen.Check.Done-- }, "156 of 157 items processed, 1 items with errors"},
		"it goes on":         {func(c *scene) { c.seen.Census.Live, c.seen.Check.At, c.seen.Check.Done = false, time.Time{}, 12 }, "b.example:5000: 12 of 157 items processed"},
		"it has ended":       {func(c *scene) { c.seen.Census.Live = false }, "Looking for images in use"},
		"it is old":          {func(c *scene) { c.seen.Now = c.seen.Now.Add(freshCheck) }, "Initializing"},
		"check of less": {func(c *scene) {
			c.seen.Census.References = append(slices.Clone(c.seen.Census.References), Reference{Name: layout.Fixed(), Image: "new:1", User: "Pod x/y"})
		}, "Initializing"},
	} {
		c := atFinal(t)
		union := c.s.Desired.Layout
		c.seen.Check = CheckReport{}
		if c.looks(); !c.seen.Census.Live {
			t.Fatalf("%s: no close look is asked for", name)
		}
		o.edit(c)
		c.advance()
		c.has(names.ConditionFinal, o.want)
		if !sameLayout(c.s, State{Desired: Desired{Layout: union}}) || len(c.s.Desired.PullSecrets) < 2 || c.s.Finalized != 0 {
			t.Errorf("%s: something was taken away: %+v", name, c.s.Desired)
		}
	}
}

func TestFinalKeepsWhatIsInUse(t *testing.T) {
	t.Parallel()
	c := atFinal(t)
	for i := range 12 {
		c.seen.Census.References = append(c.seen.Census.References,
			Reference{Name: layout.NameOf(registryA()), Image: "beta:1", User: fmt.Sprintf("Pod d8-b/flux-%02d", i)})
	}
	c.settle()
	l := c.s.Desired.Layout
	if got := l.Names(); !slices.Equal(got, []layout.Name{layout.NameOf(registryA()), layout.NameOf(registryB()), layout.Fixed()}) {
		t.Errorf("names %v", got)
	}
	if got := l.Upstreams(); !slices.Equal(got, []upstream.Upstream{registryB()}) {
		t.Errorf("upstreams %v", got)
	}
	want := "Names that are still in use and served by b.example:5000/mirror:\n" +
		"- a.example/deckhouse/ee: Deployment d8-b/flux, Pod d8-b/flux-00, Pod d8-b/flux-01, Pod d8-b/flux-02, Pod d8-b/flux-03, " +
		"Pod d8-b/flux-04, Pod d8-b/flux-05, Pod d8-b/flux-06, Pod d8-b/flux-07, Pod d8-b/flux-08, ...and 3 more\n"
	if got := c.message(names.ConditionFinal); got != want {
		t.Errorf("Final says %q, want %q", got, want)
	}
	if !c.s.Ready() {
		t.Error("what we may not touch keeps the switch from being Ready")
	}

	// Looked at again every ten minutes, and no earlier.
	c.seen.Census.References = slices.DeleteFunc(c.seen.Census.References, func(r Reference) bool { return !r.Movable })
	c.seen.Now = c.s.NamesChecked.Add(time.Minute)
	if c.p.NeedsLive(c.s, c.seen) {
		t.Error("names are looked at in every pass")
	}
	c.seen.Now = c.s.NamesChecked.Add(11 * time.Minute)
	c.step()
	if _, ok := c.s.Desired.Layout.Route(layout.NameOf(registryA())); ok || !c.s.Ready() || c.message(names.ConditionFinal) != "" {
		t.Errorf("a name that nothing uses is left: %v\n%s", c.s.Desired.Layout.Names(), c.conditions())
	}
	if slices.Contains(c.s.Bases, layout.NameOf(registryA())) {
		t.Error("it is still one of the bases")
	}
}

// TestNamesAreNotLookedAtForEver: while a node is behind nothing can go, and
// nothing is looked at in each pass.
func TestNamesAreNotLookedAtForEver(t *testing.T) {
	t.Parallel()
	c := atFinal(t)
	c.settle()
	c.seen.Nodes[1].BootID = "rebooted"
	c.seen.Now = c.seen.Now.Add(11 * time.Minute)
	if c.p.NeedsLive(c.s, c.seen) {
		t.Error("looks, although nothing may go")
	}
	c.advance()
	if !c.s.NamesChecked.Equal(c.seen.Now) {
		t.Error("it stays due for ever")
	}
}

func TestReadyIsFalseWhileAWorkloadIsMisplaced(t *testing.T) {
	t.Parallel()
	c := direct(t, 1)
	c.seen.Census.References[0].Name = layout.NameOf(registryA()) // a rollout undo
	c.advance()
	if c.s.Ready() || !c.s.Desired.Repoint {
		t.Errorf("Ready with a workload elsewhere:\n%s", c.conditions())
	}
	c.has(names.ConditionReady, "Deployment d8-a/alpha (a.example/deckhouse/ee)")
	c.platformFollows()
	if c.advance(); !c.s.Ready() {
		t.Errorf("not Ready again:\n%s", c.conditions())
	}
}

// TestCleanup: the proxy goes when nobody has used it for a while, or after the
// longest wait; and then the fixed name that was kept for its clients.
func TestCleanup(t *testing.T) {
	t.Parallel()
	c := direct(t, 1)
	c.setSpec(Unmanaged, upstream.Upstream{})
	c.until(names.ConditionCleanup)
	busy := func(ago time.Duration) {
		c.seen.Proxy = Proxy{Exists: true, LastUse: c.seen.Now.Add(-ago), Clients: []string{"10.1.2.3"}}
		c.advance()
	}
	busy(time.Minute)
	c.has(names.ConditionCleanup, "Last clients: 10.1.2.3")
	if _, ok := c.s.Desired.Layout.Route(layout.Fixed()); !ok || !c.s.Desired.Proxy {
		t.Error("the proxy's clients have lost it")
	}
	c.seen.Now = c.seen.Now.Add(30 * time.Minute)
	if busy(9 * time.Minute); !c.s.Desired.Proxy {
		t.Error("stopped under use")
	}
	patient := *c
	patient.seen.Nodes = slices.Clone(c.seen.Nodes)
	patient.seen.Now = patient.seen.Now.Add(31 * time.Minute)
	patient.seen.Proxy.LastUse = patient.seen.Now
	patient.advance()
	patient.report()
	if patient.advance(); patient.s.Desired.Proxy {
		t.Error("waits for ever")
	}
	way := layout.Fallback{Host: "10.96.0.17:5001", CA: "ca"}
	for range 3 { // it is still there, and is not learnt again
		busy(11 * time.Minute)
		c.seen.Proxy.Fallback = way
		c.advance()
		c.has(names.ConditionCleanup, "0/1 node(s) ready")
		if !c.s.Desired.Proxy || c.s.Desired.Layout.Fallback != (layout.Fallback{}) {
			t.Errorf("nodes are sent where nothing will listen: %+v", c.s.Desired)
		}
	}
	again := *c
	again.setSpec(Direct, registryA())
	again.advance()
	if again.advance(); again.s.Desired.Layout.Fallback != way || !again.s.Desired.Proxy {
		t.Error("a change of mind does not bring it back")
	}
	c.report()
	if busy(11 * time.Minute); c.s.Desired.Proxy || c.s.Ready() {
		t.Errorf("not stopped, or Ready too early:\n%s", c.conditions())
	}
	c.has(names.ConditionCleanup, "Stopping incluster-proxy...")
	c.report()
	c.seen.Proxy = Proxy{}
	c.advance()
	c.has(names.ConditionCleanup, "Looking for images in use")
	c.looks()
	c.advance()
	c.has(names.ConditionCleanup, "0/1 node(s) ready")
	c.report()
	c.advance()
	if got := c.s.Desired.Layout.Names(); !slices.Equal(got, []layout.Name{layout.NameOf(registryA())}) || !c.s.Ready() {
		t.Errorf("names %v\n%s", got, c.conditions())
	}
	if c.s.Desired.Layout.Fallback != (layout.Fallback{}) {
		t.Error("the fallback leads to a proxy that is gone")
	}
}

// TestAdvanceIsPure: it changes neither argument, and what it returns survives
// being stored.
func TestAdvanceIsPure(t *testing.T) {
	t.Parallel()
	for seed := range uint64(25) {
		p := Standard()
		checked := tamper{protocol: func(_ *sim, p *Protocol) {
			standard := p.rules.union
			p.rules.union = func(e *evaluation) layout.Layout {
				s := e.s
				if back := stored(t, s); !reflect.DeepEqual(stored(t, back), back) {
					t.Errorf("stored %+v, read %+v", s, back)
				}
				before := stored(t, s)
				l := standard(e)
				if after := stored(t, e.s); !reflect.DeepEqual(after, before) {
					t.Errorf("the stored state changed: %+v", after)
				}
				return l
			}
		}}
		if problem := history(seed+1, p, checked, nil); problem != "" {
			t.Fatalf("seed %d: %s", seed+1, problem)
		}
	}
	c := atFinal(t)
	c.looks()
	s, w := stored(t, c.s), fmt.Sprintf("%+v", c.seen)
	next := Standard().Advance(c.s, c.seen)
	if !reflect.DeepEqual(stored(t, c.s), s) || fmt.Sprintf("%+v", c.seen) != w {
		t.Error("Advance changed its arguments")
	}
	if again := Standard().Advance(c.s, c.seen); !reflect.DeepEqual(again, next) {
		t.Error("the same arguments, another result")
	}
}

// stored is a state after it was written and read.
func stored(t *testing.T, s State) State {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

func TestLogsShowNoPassword(t *testing.T) {
	t.Parallel()
	c := atFinal(t)
	c.s.Target.Upstream.Credentials.Password = "S3CRET"
	var log strings.Builder
	foreign.NewLog(&log, slog.LevelInfo).Info("x", "state", c.s, "target", c.s.Target)
	if strings.Contains(log.String(), "S3CRET") || !strings.Contains(log.String(), "b.example") {
		t.Error(log.String())
	}
	if strings.Contains(c.conditions(), "S3CRET") {
		t.Error("a condition shows the password")
	}
}

// TestTheProbeIsChosenOncePerTarget: nodes prove a target by an image that it must
// have. An upgrade of the module has another, and changes no layout for that.
func TestTheProbeIsChosenOncePerTarget(t *testing.T) {
	t.Parallel()
	c := newScene(t, 1)
	c.seen.Probe = "@sha256:1"
	c.setSpec(Direct, registryB())
	c.until(names.ConditionTransition) // which goes on publishing until each node has it
	if got := c.s.Desired.Layout.Probe; got != "@sha256:1" {
		t.Fatalf("probe %q", got)
	}
	generation := c.s.Desired.Layout.Generation
	c.seen.Probe = "@sha256:2"
	c.advance()
	if l := c.s.Desired.Layout; l.Probe != "@sha256:1" || l.Generation != generation {
		t.Errorf("an upgrade changed the layout: %q, generation %d after %d", l.Probe, l.Generation, generation)
	}
	c.settle()
	if got := c.s.Desired.Layout.Probe; got != "@sha256:1" {
		t.Errorf("Final lost the probe: %q", got)
	}
	c.setSpec(Direct, registryA())
	c.settle()
	if got := c.s.Desired.Layout.Probe; got != "@sha256:2" {
		t.Errorf("the next target is proved by %q", got)
	}
}

// TestReadySaysThatTheTargetFails: what nodes and proxy see of the registry after the
// switch shows in Ready, and decides nothing.
func TestReadySaysThatTheTargetFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		edit func(*scene)
		want string
	}{
		"on a node": {func(c *scene) {
			c.seen.Nodes[1].Report.Failing, c.seen.Nodes[1].Report.FailsBy = c.s.Target.Upstream.String(), "pulls from it fail: answered with a web page"
		}, "on 1 of 2 nodes (node-01) pulls from it fail: answered with a web page"},
		"in the proxy": {func(c *scene) { c.seen.Proxy.Failing, c.seen.Proxy.FailsBy = 1, "pulls from it fail: 503" }, "in 1 of 1 Pods of incluster-proxy pulls from it fail: 503"},
		"another registry": {func(c *scene) {
			c.seen.Nodes[1].Report.Failing, c.seen.Nodes[1].Report.FailsBy = "https://old.example.com", "gone"
		}, ""},
		"by a report of before a reboot": {func(c *scene) {
			c.seen.Nodes[1].Report.Failing, c.seen.Nodes[1].BootID = c.s.Target.Upstream.String(), "next"
		}, ""},
		"by a report of a node that is dead since": {func(c *scene) {
			c.seen.Nodes[1].Report.Failing, c.seen.Nodes[1].Ready = c.s.Target.Upstream.String(), false
		}, ""},
		"by a node that the operator left out": {func(c *scene) {
			c.seen.Nodes[1].Report.Failing, c.seen.Nodes[1].Exclude = c.s.Target.Upstream.String(), true
		}, ""},
	} {
		c := direct(t, 2)
		before := c.s
		tc.edit(c)
		c.advance()
		ready := c.s.condition(names.ConditionReady)
		if fails := tc.want != ""; c.s.Ready() == fails || !c.s.Reached() || (ready.Reason == names.ReasonTargetFails) != fails {
			t.Errorf("%s:\n%s", name, c.conditions())
		}
		c.has(names.ConditionReady, tc.want)
		if before.Generation != c.s.Generation || len(before.Passed) != len(c.s.Passed) || before.Active != c.s.Active {
			t.Errorf("%s: it decided something", name)
		}
	}
}
