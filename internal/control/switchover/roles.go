package switchover

import "github.com/d8-registry/registry/internal/layout"

// Role is who routes by a layout. Each role has a layout of its own: it is
// wanted, published and waited for by itself.
//
// The in-cluster proxy has the content of the agents' layout, if no row says
// otherwise. Stores have it without the stores, and learn a union before nodes do.
type Role int

// The roles.
const (
	Agents         Role = iota // on the nodes; Secret registry-bashible-config
	InClusterProxy             // behind Service registry; Secret registry-incluster-proxy-config
	NodeServices               // stores on nodes, also behind Service registry; Secret registry-store
)

// LayoutOf is what a role should route by.
func (d Desired) LayoutOf(role Role) layout.Layout {
	switch {
	case role == NodeServices:
		return d.StoreLayout
	case role == InClusterProxy && !d.ProxyLayout.IsZero():
		return d.ProxyLayout
	}
	return d.Layout
}

// shrunkOf is the generation of the role's last layout that lacks something of
// the one before it.
func (d Desired) shrunkOf(role Role) int64 {
	switch {
	case role == NodeServices:
		return d.StoreShrunk
	case role == InClusterProxy && d.ProxyShrunk != 0:
		return d.ProxyShrunk
	}
	return d.Shrunk
}

// setProxy keeps of the proxy's layout what differs from the agents'.
func (d *Desired) setProxy(l layout.Layout, shrunk int64) {
	d.ProxyLayout, d.ProxyShrunk = layout.Layout{}, 0
	if l.Generation != d.Layout.Generation || !l.SameContent(d.Layout) {
		d.ProxyLayout = l
	}
	if shrunk != d.Shrunk {
		d.ProxyShrunk = shrunk
	}
}

// proxyLayout is the in-cluster proxy's layout beside one of the agents, as the
// target's row says. Without a proxy both are the same.
func (e *evaluation) proxyLayout(agents layout.Layout) layout.Layout {
	if of := e.modes[e.s.Target.Mode].proxyLayout; of != nil && e.s.Desired.Proxy {
		return of(agents)
	}
	return agents
}

// publish makes a layout the one that agents should have, and adds to the
// proxy's and the stores' what follows from it.
func (e *evaluation) publish(agents layout.Layout) {
	e.setLayouts(agents, e.proxyLayout(agents).Plus(e.s.Desired.LayoutOf(InClusterProxy)))
	e.setStoreLayout(e.rules.stores(e, agents).Plus(e.s.Desired.StoreLayout))
}

// setLayouts makes these the layouts that are wanted. Those that change take
// the next generation.
func (e *evaluation) setLayouts(agents, proxy layout.Layout) {
	want, was := &e.s.Desired, e.s.Desired
	agents.Schema, proxy.Schema = layout.Schema, layout.Schema
	// A new target takes a generation even if its layouts are as before.
	unused := e.s.Generation > max(was.Layout.Generation, was.LayoutOf(InClusterProxy).Generation)
	switch {
	case unused:
	case agents.SameContent(was.Layout) && proxy.SameContent(was.LayoutOf(InClusterProxy)):
		return
	default:
		e.s.Generation++
	}
	renew := func(role Role, next layout.Layout) (l layout.Layout, shrunk int64) {
		old, shrunk := was.LayoutOf(role), was.shrunkOf(role)
		if !unused && next.SameContent(old) {
			return old, shrunk
		}
		next.Generation = e.s.Generation
		if !next.Covers(old) {
			shrunk = next.Generation
		}
		return next, shrunk
	}
	want.Layout, want.Shrunk = renew(Agents, agents)
	want.setProxy(renew(InClusterProxy, proxy))
}
