package switchover

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

func pretendCache() upstream.Upstream {
	return upstream.Upstream{Host: "cache.example", Path: "kept", Scheme: upstream.HTTPS}
}

// behindCache is a proxy that asks a cache before each registry, and that has
// no use for the nodes' fallback, which leads to itself.
func behindCache(agents layout.Layout) layout.Layout {
	agents.Routes = layout.Cross(agents.Names(), append([]upstream.Upstream{pretendCache()}, agents.Upstreams()...))
	agents.Fallback = layout.Fallback{}
	return agents
}

// cached is the protocol in which Direct's proxy routes by behindCache.
func cached() Protocol {
	p := Standard()
	row := p.modes[Direct]
	row.proxyLayout = behindCache
	p.modes[Direct] = row
	return p
}

// TestALayoutPerRole: agents and proxy have their own, each is waited for by
// its own generation, and what a mode adds for one role goes with the mode.
func TestALayoutPerRole(t *testing.T) {
	t.Parallel()
	c := newScene(t, 2)
	c.p = cached()
	c.setSpec(Direct, registryB())
	c.until(names.ConditionProxy)
	agents, proxy := c.s.Desired.LayoutOf(Agents), c.s.Desired.LayoutOf(InClusterProxy)
	if slices.Contains(agents.Upstreams(), pretendCache()) || !slices.Contains(proxy.Upstreams(), pretendCache()) || !proxy.Covers(agents) {
		t.Fatalf("agents route to %v, the proxy to %v", agents.Upstreams(), proxy.Upstreams())
	}

	// The proxy's address is news for agents only.
	c.checked()
	c.seen.Proxy = Proxy{Exists: true, Wanted: 1, Ready: 1, Generation: proxy.Generation - 1, Pulled: proxy.Generation - 1,
		Fallback: layout.Fallback{Host: "10.96.0.17:5001", CA: "ca"}}
	c.advance()
	c.has(names.ConditionProxy, fmt.Sprintf("mismatch: current %d, expected %d", proxy.Generation-1, proxy.Generation))
	c.seen.Proxy.Generation, c.seen.Proxy.Pulled = proxy.Generation, proxy.Generation
	c.advance()
	agents = c.s.Desired.LayoutOf(Agents)
	if got := c.s.Desired.LayoutOf(InClusterProxy).Generation; got != proxy.Generation || agents.Generation != proxy.Generation+1 {
		t.Fatalf("agents have generation %d, the proxy %d", agents.Generation, got)
	}
	if !strings.Contains(c.conditions(), names.ConditionProxy+" True") {
		t.Errorf("the proxy waits for the agents' generation:\n%s", c.conditions())
	}
	if c.seen.Published.Layout.Generation != agents.Generation || c.seen.ProxyPublished.Layout.Generation != proxy.Generation {
		t.Errorf("published %d and %d", c.seen.Published.Layout.Generation, c.seen.ProxyPublished.Layout.Generation)
	}
	c.settle()

	c.setSpec(Unmanaged, upstream.Upstream{})
	c.until(names.ConditionSwitch)
	if l := c.s.Desired.LayoutOf(InClusterProxy); !slices.Contains(l.Upstreams(), pretendCache()) {
		t.Error("the proxy has lost an upstream before Final")
	}
	c.settle()
	if data, err := json.Marshal(c.s.Desired); err != nil || strings.Contains(string(data), "proxyLayout") || strings.Contains(string(data), pretendCache().Host) {
		t.Errorf("after the mode both are the same, and it is stored: %s, %v", data, err)
	}
}

func TestMayPublishIsPerRole(t *testing.T) {
	t.Parallel()
	a, b := registryA(), registryB()
	of := func(generation int64, ups ...upstream.Upstream) layout.Layout {
		return layout.Layout{Generation: generation, Routes: layout.Cross([]layout.Name{layout.Fixed()}, ups)}
	}
	s := State{Desired: Desired{Layout: of(7, a), Shrunk: 7, ProxyLayout: of(5, b, a)}}
	for name, c := range map[string]struct {
		role Role
		seen layout.Layout
		err  error
	}{
		"agents, less, by Final":            {Agents, of(5, a, b), nil},
		"proxy, the same":                   {InClusterProxy, of(5, b, a), nil},
		"proxy, more":                       {InClusterProxy, of(4, b), nil},
		"proxy, newer":                      {InClusterProxy, of(6, b, a), ErrOlder},
		"proxy, less, by the agents' Final": {InClusterProxy, of(4, a, pretendCache()), ErrShrinks},
	} {
		if err := s.MayPublish(c.role, Published{Found: true, Layout: c.seen}); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
}

// TestALostStateKeepsTheProxysLayout until Final, from wherever it is known.
func TestALostStateKeepsTheProxysLayout(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*scene){
		"all of it":        func(c *scene) { c.s = State{} },
		"older":            func(c *scene) { c.seen.Published.Layout.Generation++ },
		"older, no Secret": func(c *scene) { c.seen.Published.Layout.Generation++; c.seen.ProxyPublished = Published{} },
		"proxy ahead":      func(c *scene) { c.seen.ProxyPublished.Layout.Generation = 50 },
		"lost, ahead":      func(c *scene) { c.s = State{}; c.seen.ProxyPublished.Layout.Generation = 50 },
	} {
		c := newScene(t, 2)
		c.p = cached()
		c.setSpec(Direct, registryB())
		c.settle()
		c.setSpec(Unmanaged, upstream.Upstream{}) // whose row knows of no cache
		c.until(names.ConditionSwitch)
		before := c.s.Desired.LayoutOf(InClusterProxy)
		lose(c)
		before.Generation = max(before.Generation, c.seen.ProxyPublished.Layout.Generation)
		c.advance()
		if got := c.s.Desired.LayoutOf(InClusterProxy); !got.Covers(before) || got.Generation <= before.Generation {
			t.Errorf("%s: the proxy should have %v, had %v", name, got, before)
		}
		c.settle()
	}
}
