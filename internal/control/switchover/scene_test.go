package switchover

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// scene is a cluster of a few nodes that does what it is told, for tests that
// look at one thing.
type scene struct {
	t    *testing.T
	p    Protocol
	s    State
	seen Observed
}

func registryA() upstream.Upstream {
	return upstream.Upstream{Host: "a.example", Path: "deckhouse/ee", Scheme: upstream.HTTPS}
}

func registryB() upstream.Upstream {
	return upstream.Upstream{Host: "b.example:5000", Path: "mirror", Scheme: upstream.HTTPS,
		Credentials: upstream.Credentials{Username: "u", Password: "p"}}
}

func newScene(t *testing.T, nodes int) *scene {
	t.Helper()
	c := &scene{t: t, p: Standard()}
	c.seen = Observed{Now: time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC), Settings: DefaultSettings(), Installation: registryA()}
	for i := range nodes {
		uid := fmt.Sprintf("uid-%02d", i)
		c.seen.Nodes = append(c.seen.Nodes, Node{
			Name: fmt.Sprintf("node-%02d", i), UID: uid, BootID: "boot", Ready: true, Agent: true, Schedulable: true, ControlPlane: i == 0,
			Report: Report{UID: uid, BootID: "boot", Preflight: PreflightReady},
		})
	}
	c.seen.Census.References = []Reference{{Name: layout.NameOf(registryA()), Image: "alpha@sha256:1", User: "Deployment d8-a/alpha", Movable: true}}
	return c
}

// advance is one pass; the layout is published as the controller would.
func (c *scene) advance() {
	c.t.Helper()
	c.seen.Now = c.seen.Now.Add(time.Second)
	c.s = c.p.Advance(c.s, c.seen)
	if want := c.s.Desired.Layout; !want.IsZero() {
		if err := c.s.MayPublish(Agents, c.seen.Published); err != nil {
			c.t.Fatal(err)
		}
		c.seen.Published = Published{Layout: want, Found: true}
		c.publishProxy()
	}
}

// publishProxy publishes the proxy's layout as the controller would.
func (c *scene) publishProxy() {
	c.t.Helper()
	if !c.s.Desired.Proxy {
		c.seen.ProxyPublished = Published{}
		return
	}
	if err := c.s.MayPublish(InClusterProxy, c.seen.ProxyPublished); err != nil {
		c.t.Fatal(err)
	}
	c.seen.ProxyPublished = Published{Layout: c.s.Desired.LayoutOf(InClusterProxy), Found: true}
}

func (c *scene) setSpec(mode Mode, u upstream.Upstream) { c.seen.Spec = Spec{Mode: mode, Upstream: u} }

// checked lets the check that is wanted pass.
func (c *scene) checked() {
	if !c.p.KeepsCheck(c.s, c.seen) {
		request := c.p.CheckRequest(c.s, c.seen)
		c.seen.Check = CheckReport{Fingerprint: request.Fingerprint(), Total: 157, Done: 157, At: c.seen.Now}
	}
}

// report lets nodes report what is published.
func (c *scene) report() {
	for i := range c.seen.Nodes {
		c.seen.Nodes[i].Report.Generation = c.s.Desired.Layout.Generation
		c.seen.Nodes[i].Report.Version = c.s.Desired.Layout.Version()
	}
}

// proxyFollows lets the in-cluster proxy be as it is wanted, and stores.
func (c *scene) proxyFollows() {
	c.seen.Proxy, c.seen.Store, c.seen.StorePublished = Proxy{}, Stores{}, Published{}
	way := layout.Fallback{Host: "10.96.0.17:5001", CA: "ca"}
	if g := c.s.Desired.LayoutOf(InClusterProxy).Generation; c.s.Desired.Proxy {
		c.seen.Proxy = Proxy{Exists: true, Wanted: 1, Ready: 1, Generation: g, Pulled: g, Fallback: way}
	}
	if g := c.s.Desired.StoreLayout.Generation; !c.s.Desired.Store.IsZero() {
		c.seen.Proxy.Fallback = way
		c.seen.StorePublished = Published{Layout: c.s.Desired.StoreLayout, Found: true}
		c.seen.Store = Stores{Exists: true, Wanted: 2, Ready: 2, Generation: g, Pulled: g, Endpoints: []string{"10.0.0.1:5001", "10.0.0.2:5001"},
			Reach: layout.Stores{CA: "ca", Credentials: upstream.Credentials{Username: "node", Password: "p"}}}
	}
}

// platformFollows lets the platform be where it is wanted.
func (c *scene) platformFollows() {
	want := c.s.Desired
	c.seen.Platform = Platform{Target: want.Registry, Moved: true}
	if want.Repoint {
		for i, r := range c.seen.Census.References {
			if r.Movable {
				c.seen.Census.References[i].Name = want.Workloads
			}
		}
	}
}

// stays puts the platform back to where it was.
func (c *scene) stays() {
	c.seen.Platform = Platform{}
	for i := range c.seen.Census.References {
		c.seen.Census.References[i].Name = layout.NameOf(registryA())
	}
}

// looks lets the controller look closely where it should, and again after the check of
// what it found.
func (c *scene) looks() {
	c.seen.Census.Live = false
	if c.p.NeedsLive(c.s, c.seen) {
		c.seen.Census.Live = true
		c.checked()
	}
}

// settle lets everything work until the switch is Ready.
func (c *scene) settle() {
	c.t.Helper()
	for range 30 {
		if c.step(); c.s.Ready() && c.s.Active == c.s.Target {
			return
		}
	}
	c.t.Fatalf("does not become Ready:\n%s", c.conditions())
}

func (c *scene) step() {
	c.t.Helper()
	c.seen.Census.Live = false
	c.checked()
	c.looks()
	c.advance()
	c.report()
	c.proxyFollows()
	c.platformFollows()
	c.seen.Now = c.seen.Now.Add(11 * time.Minute)
}

// until goes on until a step waits, and leaves it waiting.
func (c *scene) until(step string) {
	c.t.Helper()
	for range 30 {
		if e := (&evaluation{s: c.s}); c.s.Target.Mode == c.seen.Spec.Mode && nextStep(c.p, e) == step {
			return
		}
		c.step()
	}
	c.t.Fatalf("never waits at %s:\n%s", step, c.conditions())
}

func nextStep(p Protocol, e *evaluation) string {
	for _, s := range p.modes[e.s.Target.Mode].plan {
		if !e.s.passed(s.name) {
			return s.name
		}
	}
	return ""
}

func (c *scene) conditions() string {
	var b strings.Builder
	for _, o := range c.s.Conditions {
		fmt.Fprintf(&b, "%s %s %q %q\n", o.Type, o.Status, o.Reason, o.Message)
	}
	return b.String()
}

func (c *scene) want(conditions string) {
	c.t.Helper()
	if got := c.conditions(); strings.TrimSpace(got) != strings.TrimSpace(conditions) {
		c.t.Errorf("conditions:\n%s\nwant:\n%s", got, conditions)
	}
}

func (c *scene) message(condition string) string {
	c.t.Helper()
	o := c.s.condition(condition)
	if o == nil {
		c.t.Fatalf("no condition %s:\n%s", condition, c.conditions())
	}
	return o.Message
}

func (c *scene) since(condition string) metav1.Time {
	c.t.Helper()
	return c.s.condition(condition).LastTransitionTime
}

func (c *scene) has(condition, text string) {
	c.t.Helper()
	if got := c.message(condition); !strings.Contains(got, text) {
		c.t.Errorf("%s says %q, want %q in it", condition, got, text)
	}
}

// direct is a cluster that is Ready in Direct on registry A.
func direct(t *testing.T, nodes int) *scene {
	t.Helper()
	c := newScene(t, nodes)
	c.setSpec(Direct, registryA())
	c.settle()
	return c
}

// back is a cluster that was in Direct and is Ready in Unmanaged again.
func back(t *testing.T, nodes int) *scene {
	t.Helper()
	c := direct(t, nodes)
	c.setSpec(Unmanaged, upstream.Upstream{})
	c.settle()
	c.seen.Installation = registryA()
	c.step() // prunes what was kept for the proxy's clients
	c.step()
	return c
}
