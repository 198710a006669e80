package switchover

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestALostStateKeepsStores until the plan of the mode says otherwise.
func TestALostStateKeepsStores(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*scene){
		"all":            func(c *scene) { c.s = State{} },
		"all, no Secret": func(c *scene) { c.s, c.seen.StorePublished = State{}, Published{} },
		"older":          func(c *scene) { c.seen.StorePublished.Layout.Generation += 7 },
		"of before stores": func(c *scene) {
			c.s.Desired.Store, c.s.Desired.StoreLayout = Store{}, layout.Layout{}
			c.seen.StorePublished.Layout.Generation += 7
		},
	} {
		c := proxied(t)
		c.setSpec(ModeProxy, registryB())
		c.until(names.ConditionSwitch)
		before := c.s.Desired
		lose(c)
		generation := max(before.StoreLayout.Generation, c.seen.StorePublished.Layout.Generation)
		c.advance()
		got := c.s.Desired
		if got.Store.IsZero() || !got.StoreLayout.Covers(before.StoreLayout) || got.StoreLayout.Generation <= generation || got.Layout.Stores.IsZero() {
			t.Errorf("%s: stores have %v, nodes %v", name, got.StoreLayout, got.Layout.Stores)
		}
		if err := c.s.MayPublish(NodeServices, c.seen.StorePublished); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.proxyFollows()
		c.settle()
	}
	// Lost before nodes heard of anything: what stores have is known, and goes with the mode.
	c := newScene(t, 2)
	c.setSpec(ModeProxy, registryB())
	c.until(names.ConditionStores)
	c.s = State{}
	c.setSpec(Unmanaged, upstream.Upstream{})
	before := c.seen.StorePublished.Layout.Generation
	if c.advance(); c.s.Generation <= before {
		t.Errorf("begins again with generation %d, stores have %d", c.s.Generation, before)
	}
	if c.settle(); !c.s.Desired.Store.IsZero() || !c.s.Desired.Layout.IsZero() {
		t.Errorf("left: %+v", c.s.Desired)
	}
}

// TestAStateOfBeforeTheStoresLayout: a copy of the state has the generation of the layout
// that its successor gave to stores, and never gave it. Whatever is wanted then, what
// stores have may be replaced.
func TestAStateOfBeforeTheStoresLayout(t *testing.T) {
	t.Parallel()
	c := proxied(t)
	c.setSpec(ModeProxy, registryB())
	c.seen.Check = CheckReport{}
	c.advance()
	older := c.s
	c.checked()
	c.advance()
	if want := c.s.Desired.StoreLayout; want.Generation != older.Generation || !slices.Contains(want.Upstreams(), registryB()) {
		t.Fatalf("stores are given %v, the copy has generation %d", want, older.Generation)
	}
	c.seen.StorePublished.Layout = c.s.Desired.StoreLayout
	c.s = older
	c.setSpec(ModeProxy, registryA())
	for range 3 {
		c.advance()
		if err := c.s.MayPublish(NodeServices, c.seen.StorePublished); err != nil {
			t.Fatal(err)
		}
	}
	c.proxyFollows()
	c.settle()
}

// TestStoresBeginAnew over what is still published for those that have ended: nobody has
// it any more, and a switch does not begin anew for it.
func TestStoresBeginAnew(t *testing.T) {
	t.Parallel()
	c := proxied(t)
	left := c.seen.StorePublished
	c.setSpec(Direct, registryB())
	c.settle()
	c.seen.StorePublished = left
	c.setSpec(ModeProxy, registryB())
	c.advance()
	c.checked()
	c.advance()
	given := c.s.Desired.StoreLayout
	if err := c.s.MayPublish(NodeServices, left); err != nil || slices.Contains(given.Upstreams(), registryA()) {
		t.Fatalf("stores are given %v: %v", given, err)
	}
	if c.advance(); c.s.Generation != given.Generation {
		t.Errorf("generation %d, %d was given to stores: it begins anew", c.s.Generation, given.Generation)
	}
}

// TestStoresAreInTheSize of a wish.
func TestStoresAreInTheSize(t *testing.T) {
	t.Parallel()
	c := direct(t, 1)
	c.setSpec(ModeProxy, registryB())
	grown, more := c.p.Grown(c.s, c.seen)
	if ups := grown.Desired.StoreLayout.Upstreams(); !more || len(ups) != 4 {
		t.Errorf("%v, %v", more, ups)
	}
	for _, mode := range []Mode{Direct, ModeProxy} {
		c.setSpec(mode, registryB())
		c.settle()
		data, err := json.Marshal(c.s)
		if err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(string(data), "store"); has != (mode == ModeProxy) {
			t.Errorf("%s: %s", mode, data)
		}
	}
}

// TestTTLIsNoTarget: it is followed without a switch, and kept without a wish.
func TestTTLIsNoTarget(t *testing.T) {
	t.Parallel()
	c := proxied(t)
	g := c.s.Generation
	c.seen.Spec.TTL = time.Hour
	c.advance()
	c.seen.Spec = Spec{Problem: "ModuleConfig deckhouse does not exist."}
	if c.advance(); c.s.Desired.Store.TTL != time.Hour || c.s.Generation != g || !c.s.Ready() {
		t.Errorf("TTL %v, generation %d, was %d", c.s.Desired.Store.TTL, c.s.Generation, g)
	}
}

// TestTransitionsThatAreNotSupported are refused by name, and what is there stays. The
// way back is open.
func TestTransitionsThatAreNotSupported(t *testing.T) {
	t.Parallel()
	c := proxied(t)
	row := c.p.modes[ModeProxy]
	row.notFrom = []Mode{ModeProxy}
	c.p.modes["Local"] = row
	before := c.s
	c.setSpec("Local", registryB())
	for range 2 {
		c.advance()
	}
	o := c.s.condition(names.ConditionNotSupported)
	if o == nil || o.Status != metav1.ConditionTrue || o.Reason != names.ReasonError || o.Message != "mode transition from Proxy to Local not supported" {
		t.Fatalf("it says:\n%s", c.conditions())
	}
	if last := c.s.Conditions[len(c.s.Conditions)-1]; last.Type != names.ConditionReady || last.Status != metav1.ConditionTrue || !strings.Contains(last.Message, o.Message) {
		t.Errorf("Ready: %+v", last)
	}
	if c.s.Target != before.Target || !sameDesired(c.s.Desired, before.Desired) {
		t.Error("something changed")
	}
	c.setSpec(ModeProxy, registryA())
	if c.advance(); c.s.condition(names.ConditionNotSupported) != nil || !c.s.Ready() {
		t.Errorf("after the way back:\n%s", c.conditions())
	}
	for _, from := range []Mode{Unmanaged, Direct, ModeProxy} {
		for _, to := range []Mode{Unmanaged, Direct, ModeProxy} {
			if text := Standard().NotSupported(from, to); text != "" {
				t.Errorf("%s to %s: %s", from, to, text)
			}
		}
	}
}
