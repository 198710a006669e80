package switchover

import (
	"slices"
	"testing"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// proxied is a cluster that is Ready in Proxy on registry A.
func proxied(t *testing.T) *scene {
	t.Helper()
	c := newScene(t, 2)
	c.setSpec(ModeProxy, registryA())
	c.settle()
	return c
}

// TestConditionsOfProxy: stores are told first, nodes when they serve, and the last
// layout has the registry and the stores before it.
func TestConditionsOfProxy(t *testing.T) {
	t.Parallel()
	c := newScene(t, 2)
	c.setSpec(ModeProxy, registryB())
	c.until(names.ConditionStores)
	if !c.s.Desired.Layout.IsZero() {
		t.Error("nodes hear of a switch while stores start")
	}
	if ups := c.s.Desired.StoreLayout.Upstreams(); !slices.Contains(ups, registryA()) || !slices.Contains(ups, registryB()) {
		t.Errorf("stores are given %v", ups)
	}
	c.until(names.ConditionTransition)
	g := c.s.Desired.Layout.Generation
	if c.advance(); c.s.Desired.Layout.Generation != g {
		t.Error("nodes hear of the way to the Service by another layout")
	}
	if l := c.s.Desired.Layout; len(l.Upstreams()) != 2 || !slices.Equal(l.Stores.Endpoints, c.seen.Store.Endpoints) || l.Stores.CA != "ca" || l.Fallback != c.seen.Proxy.Fallback {
		t.Errorf("the union is %v with stores %v and way %v", l.Upstreams(), l.Stores, l.Fallback)
	}
	c.settle()
	c.want(`
RegistryContainsRequiredImages True "Ready" "b.example:5000: all 157 items are checked"
ContainerdConfigPreflightReady True "" ""
NodeServicesReady True "" ""
TransitionContainerdConfigReady True "" ""
DeckhouseRegistrySwitchReady True "" ""
FinalContainerdConfigReady True "" ""
CleanupInClusterProxy True "" ""
Ready True "" ""
`)
	want := c.s.Desired
	if want.Proxy || want.Workloads != layout.Fixed() || want.Store.Alone != NodeServices || len(want.Layout.Stores.Endpoints) != 2 ||
		len(want.Layout.Upstreams()) != 1 || len(want.StoreLayout.Upstreams()) != 1 || want.Layout.Fallback == (layout.Fallback{}) {
		t.Errorf("wanted in the end: %+v", want)
	}
}

// TestEveryWayBetweenModes ends with what its mode has, and nothing of another one. It
// passes Ready at each, and a way back in between is one pass if nothing was published.
func TestEveryWayBetweenModes(t *testing.T) {
	t.Parallel()
	modes := []Mode{Direct, ModeProxy, Unmanaged}
	for _, from := range modes {
		for _, to := range modes {
			c := direct(t, 2)
			for _, mode := range []Mode{from, to} {
				u := registryB()
				if mode == Unmanaged {
					u = upstream.Upstream{}
				}
				c.seen.Installation = upstream.Upstream{}
				c.setSpec(mode, u)
				c.step()
				c.settle()
			}
			want, row := c.s.Desired, c.p.modes[to]
			if want.Proxy != row.proxy || want.Store.IsZero() == row.store || want.StoreLayout.IsZero() == row.store || want.Layout.Stores.IsZero() == row.store {
				t.Errorf("%s to %s: %+v", from, to, want)
			}
			if fallback := want.Layout.Fallback != (layout.Fallback{}); fallback != row.fixedAddress {
				t.Errorf("%s to %s: fallback %v", from, to, want.Layout.Fallback)
			}
			if o := c.s.condition(names.ConditionCleanupStores); (o != nil) != (from == ModeProxy && to != ModeProxy) {
				t.Errorf("%s to %s: CleanupNodeServices is %v", from, to, o)
			}
			c.setSpec(Direct, registryA())
			c.seen.Check = CheckReport{}
			c.advance()
			c.setSpec(to, c.s.Active.Upstream)
			if to == Unmanaged {
				c.setSpec(to, upstream.Upstream{})
			}
			if c.advance(); !c.s.Ready() {
				t.Errorf("%s to %s: the way back takes more than one pass:\n%s", from, to, c.conditions())
			}
		}
	}
}

// TestAChangeOfMindInEachStep of a switch to Proxy and from it: all modes are reached
// from there, and nothing of the abandoned one is left.
func TestAChangeOfMindInEachStep(t *testing.T) {
	t.Parallel()
	for _, start := range []Mode{Unmanaged, Direct, ModeProxy} {
		for _, way := range []Mode{Direct, ModeProxy, Unmanaged} {
			for _, s := range Standard().modes[way].plan {
				for _, to := range []Mode{Unmanaged, Direct, ModeProxy} {
					changesItsMind(t, start, way, to, s.name)
				}
			}
		}
	}
}

func changesItsMind(t *testing.T, start, way, to Mode, at string) {
	t.Helper()
	c := newScene(t, 2)
	wish := func(mode Mode, u upstream.Upstream) {
		c.seen.Installation = upstream.Upstream{}
		if mode == Unmanaged {
			u = upstream.Upstream{}
		}
		c.setSpec(mode, u)
	}
	c.setSpec(Unmanaged, upstream.Upstream{})
	c.settle()
	if start != Unmanaged {
		wish(start, registryA())
		c.settle()
	}
	wish(way, registryB())
	for range 30 {
		if nextStep(c.p, &evaluation{s: c.s}) == at && c.s.Target.Mode == way {
			break
		}
		c.step()
	}
	wish(to, registryA())
	c.step()
	c.settle()
	want, row := c.s.Desired, c.p.modes[to]
	if c.s.Active.Mode != to || want.Proxy != row.proxy || want.Store.IsZero() == row.store || want.Layout.Stores.IsZero() == row.store {
		t.Errorf("%s, to %s until %s, then to %s: %+v\n%s", start, way, at, to, want, c.conditions())
	}
}

func TestStoreMessages(t *testing.T) {
	t.Parallel()
	c := newScene(t, 1)
	c.setSpec(ModeProxy, registryB())
	c.until(names.ConditionStores)
	l, way := c.s.Desired.StoreLayout, layout.Fallback{Host: "10.96.0.17:5001"}
	g := l.Generation
	version := quoteVersion(l.Version())
	for _, o := range []struct {
		store Stores
		way   layout.Fallback
		want  string
	}{
		{Stores{Missing: []string{"master-1: node is not Ready"}}, way, "No node can run node services: none of the control plane, or with label registry.deckhouse.io/store, is Ready and schedulable.\nNot waited for:\n- master-1: node is not Ready"},
		{Stores{Exists: true, Wanted: 3, Ready: 1, Waiting: []string{"master-0", "master-2"}}, way,
			"1/3 node(s) ready. Waiting:\n- master-0: services pod(s) is not Ready or config version mismatch (!= " + version + ")\n- master-2: services pod(s) is not Ready or config version mismatch (!= " + version + ")"},
		{Stores{Exists: true, Wanted: 3, Ready: 3, Generation: g - 1, Oldest: []string{"master-0", "master-2"}, Pulled: g}, way,
			"1/3 node(s) ready. Waiting:\n- master-0: services pod(s) is not Ready or config version mismatch (!= " + version + ")\n- master-2: services"},
		{Stores{Exists: true, Wanted: 1, Ready: 1, Generation: g + 1, Oldest: []string{"master-0"}, Pulled: g + 1}, way, "0/1 node(s) ready. Waiting:\n- master-0: services"},
		{Stores{Exists: true, Wanted: 2, Ready: 1, Generation: g, Oldest: []string{"master-0"}, Waiting: []string{"master-1"}, Message: "master-1: no disk"}, way,
			"1/2 node(s) ready. Waiting:\n- master-1: services pod(s) is not Ready or config version mismatch (!= " + version + ")\nmaster-1: no disk"},
		{Stores{Exists: true, Wanted: 1, Message: "the image cannot be pulled"}, way, "Deploying node services: the image cannot be pulled"},
		{Stores{Exists: true, Wanted: 1, Ready: 1, Generation: g, Pulled: g}, layout.Fallback{}, "Service has no address yet"},
		{Stores{Exists: true, Wanted: 1, Ready: 1, Generation: g, Pulled: g - 1}, way, "no image was pulled through each of them yet"},
	} {
		c.seen.Store, c.seen.Proxy = o.store, Proxy{Fallback: o.way}
		c.s.Passed = slices.DeleteFunc(slices.Clone(c.s.Passed), func(p Passed) bool { return p.Step == names.ConditionStores })
		c.advance()
		c.has(names.ConditionStores, o.want)
		if c.s.passed(names.ConditionStores) {
			t.Errorf("%+v: it is done", o.store)
		}
	}
}

// TestEndpointsFollowTheStores, and a store that is down for a moment is no news.
func TestEndpointsFollowTheStores(t *testing.T) {
	t.Parallel()
	c := proxied(t)
	g := c.s.Desired.Layout.Generation
	see := func(wanted int, endpoints ...string) []string {
		c.seen.Store.Wanted, c.seen.Store.Ready, c.seen.Store.Endpoints = wanted, len(endpoints), endpoints
		c.advance()
		return c.s.Desired.Layout.Stores.Endpoints
	}
	const one, two, three = "10.0.0.1:5001", "10.0.0.2:5001", "10.0.0.3:5001"
	for _, o := range []struct {
		wanted     int
		seen, want []string
		news       int64
	}{
		{2, []string{one}, []string{one, two}, 0},
		{0, nil, []string{one, two}, 0},
		{3, []string{one, three}, []string{one, two, three}, 1},
		{2, []string{one, three}, []string{one, three}, 1},
	} {
		before := c.s.Desired.Layout
		if got := see(o.wanted, o.seen...); !slices.Equal(got, o.want) {
			t.Errorf("%d wanted, %v seen: %v", o.wanted, o.seen, got)
		}
		g += o.news
		if now := c.s.Desired.Layout; now.Generation != g || !now.Covers(before) || !before.Covers(now) || c.s.Desired.Shrunk > before.Generation {
			t.Errorf("%v seen: generation %d, want %d; shrunk %d", o.seen, now.Generation, g, c.s.Desired.Shrunk)
		}
		c.report()
	}
	c.seen.Store.Reach.CA = "another"
	if see(2, one, three); c.s.Desired.Layout.Stores.CA != "another" {
		t.Error("nodes do not hear of another CA")
	}
	var many []string
	for i := range layout.MaxStores + 3 {
		many = append(many, "10.0.1."+string(rune('a'+i)))
	}
	if got := see(len(many), many...); len(got) != layout.MaxStores {
		t.Errorf("%d endpoints", len(got))
	}
}

// TestStoresLeaveTheLayoutBeforeTheyStop: nodes forget them, then they stop; one on a
// node that is not reached is named and not waited for.
func TestStoresLeaveTheLayoutBeforeTheyStop(t *testing.T) {
	t.Parallel()
	c := proxied(t)
	c.setSpec(Direct, registryA())
	c.until(names.ConditionFinal)
	if c.s.Desired.Store.IsZero() || c.s.Desired.Layout.Stores.IsZero() || c.s.Desired.Store.Alone != InClusterProxy {
		t.Fatalf("they are gone before Cleanup: %+v", c.s.Desired)
	}
	c.until(names.ConditionCleanupStores)
	for i := range c.seen.Nodes {
		c.seen.Nodes[i].Report.Generation--
	}
	for range 3 {
		if c.advance(); c.s.Desired.Store.IsZero() {
			t.Fatal("they stop before nodes have forgotten them")
		}
	}
	if !c.s.Desired.Layout.Stores.IsZero() {
		t.Error("nodes are still told of them")
	}
	c.report()
	if c.advance(); !c.s.Desired.Store.IsZero() || !c.s.Desired.StoreLayout.IsZero() {
		t.Fatalf("nodes have forgotten them, and they go on:\n%s", c.conditions())
	}
	c.has(names.ConditionCleanupStores, "Stopping node services...")
	c.seen.Store = Stores{Missing: []string{"master-2: node is not Ready"}}
	c.advance()
	c.has(names.ConditionCleanupStores, "Node services may still run on node(s) that are not reached:\n- master-2: node is not Ready")
	if c.step(); !c.s.Ready() {
		t.Errorf("it waits for them:\n%s", c.conditions())
	}
	c.seen.Store = Stores{}
	if c.advance(); c.message(names.ConditionCleanupStores) != "" {
		t.Errorf("they are back, and it says %q", c.message(names.ConditionCleanupStores))
	}
}

// TestStoresAfterTheSwitch: what the cache holds is said, and who of them is gone. It stops
// nothing: pulls go on.
func TestStoresAfterTheSwitch(t *testing.T) {
	t.Parallel()
	c := proxied(t)
	const lost = "master-2: node is not Ready, since 2026-12-02T18:40:00Z"
	for _, o := range []struct {
		seen            Stores
		condition, says string
	}{
		{Stores{Wanted: 3, Ready: 3, Cached: 157, Used: 157}, "3/3 node(s) ready, cache holds 157 of 157 images in use", ""},
		{Stores{Wanted: 3, Ready: 2, Cached: 3, Used: 157, Waiting: []string{"master-0"}}, "3/3 node(s) ready, cache holds 3 of 157 images in use", ""},
		{Stores{Wanted: 2, Ready: 2, Missing: []string{"master-2: node is not Ready"}, Gone: []string{lost}}, "2/3 node(s) ready\nNot seen to serve:\n- " + lost,
			"Node services of 1 of 3 node(s) are not seen to serve, and pulls go on without them:\n- " + lost},
		{Stores{Missing: []string{"master-2: node is not Ready"}, Gone: []string{lost}}, "0/1 node(s) ready\nNot seen to serve:\n- " + lost,
			"No node services are seen to serve. Nodes pull from the registry, and nobody stands behind Service registry:\n- " + lost},
		{Stores{Wanted: 3, Ready: 3}, "3/3 node(s) ready", ""},
	} {
		c.seen.Store = o.seen
		c.advance()
		if condition, ready := c.message(names.ConditionStores), c.message(names.ConditionReady); condition != o.condition || ready != o.says || !c.s.Ready() {
			t.Errorf("%+v:\n%q\n%q\n%s", o.seen, condition, ready, c.conditions())
		}
	}
	c.setSpec(ModeProxy, registryB())
	c.until(names.ConditionTransition)
	if got := c.message(names.ConditionStores); got != "" {
		t.Errorf("in the next switch it says %q", got)
	}
}

// TestStoresWaitForTheirClients where nothing else stands behind the Service.
func TestStoresWaitForTheirClients(t *testing.T) {
	t.Parallel()
	c := proxied(t)
	c.setSpec(Unmanaged, upstream.Upstream{})
	c.until(names.ConditionCleanupStores)
	if c.s.Desired.Layout.Fallback != (layout.Fallback{}) {
		t.Error("nodes are still sent to the Service")
	}
	for range 3 {
		c.seen.Store.LastUse, c.seen.Store.Clients = c.seen.Now, []string{"10.1.2.3"}
		c.advance()
		c.has(names.ConditionCleanupStores, "Waiting until nobody has used node services for a while. Last clients: 10.1.2.3")
	}
	c.seen.Now = c.seen.Now.Add(c.seen.Settings.ProxyIdle + time.Second)
	if c.advance(); !c.s.Desired.Layout.Stores.IsZero() {
		t.Error("nobody uses them, and they stay")
	}
	c.settle()
	if c.step(); slices.Contains(c.s.Desired.Layout.Names(), layout.Fixed()) {
		t.Error("the fixed name is left")
	}
}

// TestTheProxyStaysWithoutAStore: the last that stands behind the Service is not stopped.
func TestTheProxyStaysWithoutAStore(t *testing.T) {
	t.Parallel()
	c := direct(t, 2)
	c.setSpec(ModeProxy, registryA())
	c.until(names.ConditionCleanup)
	c.seen.Store.Ready, c.seen.Store.Waiting = 0, []string{"node-00", "node-01"}
	c.seen.Now = c.seen.Now.Add(2 * time.Hour)
	for range 3 {
		c.advance()
		c.seen.Now = c.seen.Now.Add(2 * time.Hour)
	}
	if c.has(names.ConditionCleanup, "0/2 node(s) ready"); !c.s.Desired.Proxy {
		t.Error("it was stopped")
	}
	if c.settle(); c.s.Desired.Proxy {
		t.Error("stores serve, and it stays")
	}
}
