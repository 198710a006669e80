package switchover

import (
	"fmt"
	"slices"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// published is the agents' layout that lies in the cluster, if it can be read.
func (e *evaluation) published() (layout.Layout, bool) { return e.seen.Published.read() }

func (p Published) read() (layout.Layout, bool) {
	return p.Layout, p.Found && p.Problem == "" && !p.Layout.IsZero()
}

// Unreadable reports whether nothing can be decided without guessing: Advance then
// says why and changes nothing, and nothing of the cluster may be changed either.
func (p Protocol) Unreadable(s State, seen Observed) bool {
	return p.evaluate(s, seen).unreadable() != ""
}

// unreadable says why nothing can be decided without guessing; empty if it can.
func (e *evaluation) unreadable() string {
	s := e.s
	switch {
	case s.Schema > stateSchema:
		return fmt.Sprintf("The stored state has schema %d, this program knows %d: it was written by a newer version. Nothing is changed.", s.Schema, LargeSchema)
	case e.unknownMode() != "":
		return fmt.Sprintf("The stored state or the published layout has mode %q, which this program does not know: it was written by a newer version. Nothing is changed.", e.unknownMode())
	case s.Active.IsZero() && s.Target.IsZero() && e.seen.Published.Found && e.seen.Published.Problem != "":
		return "The stored state is lost and Secret " + names.Namespace + "/" + names.SecretLayout + " cannot be read: " + foreign.Line(e.seen.Published.Problem, 4*foreign.Sentence) +
			". Nodes keep what they have. Restore one of them; deleting the Secret starts anew from ModuleConfig and Secret " + names.SecretRegistry + "."
	}
	return ""
}

// unknownMode is a mode that a decision would rest on and that no row is for;
// empty when there is none.
func (e *evaluation) unknownMode() Mode {
	modes := []Mode{e.s.Active.Mode, e.s.Target.Mode}
	if published, found := e.published(); found && e.lost() {
		modes = append(modes, Mode(published.Mode), Mode(published.ActiveMode))
	}
	for _, m := range modes {
		if m != "" && !e.knows(m) {
			return m
		}
	}
	return ""
}

// lost reports whether the stored state is missing or older than what it led
// to. Nothing is published before it is stored, so a layout or a report that
// the state does not know was made from a later one.
func (e *evaluation) lost() bool { return e.lostBy(e.highestReport()) }

// lostBy is lost if this is the highest report.
func (e *evaluation) lostBy(reported int64) bool {
	stored := e.s.Desired.Layout
	_, found := e.published()
	switch {
	case e.storesAreUnknown():
		return true
	case e.s.Active.IsZero() && e.s.Target.IsZero():
		return found || reported > e.s.Generation
	case e.publishedIsUnknown():
		return true
	case stored.IsZero() && !e.s.Desired.Legacy:
		return reported > 0 && reported >= e.s.Generation
	case stored.IsZero():
		return reported > e.s.Generation
	}
	return reported > stored.Generation
}

// publishedIsUnknown reports whether a layout is published that does not follow
// from the stored state.
func (e *evaluation) publishedIsUnknown() bool {
	stored := e.s.Desired.Layout
	published, found := e.published()
	proxy, proxyFound := e.seen.ProxyPublished.read()
	switch {
	case proxyFound && proxy.Generation > e.s.Generation:
		return true
	case !found:
		return false
	case published.Generation > stored.Generation:
		return true
	case published.Generation == stored.Generation && !published.SameContent(stored):
		return true
	}
	return e.s.MayPublish(Agents, e.seen.Published) != nil // the state was rebuilt from an older look at it
}

// rebuild makes a state from what is published and from what remains of the
// stored one. It forgets how far the switch was. It keeps all that nodes may
// know or that may be in use: what is wanted is the union of all that is known,
// until Final.
func rebuild(e *evaluation) {
	s := &e.s
	stored := s.Desired.Layout
	published, found := e.published()
	generation := max(s.Generation, e.highestReport())
	if found {
		generation = max(generation, published.Generation)
	}
	if proxy, found := e.seen.ProxyPublished.read(); found {
		generation = max(generation, proxy.Generation)
	}
	if stores, found := e.seen.StorePublished.read(); found {
		generation = max(generation, stores.Generation)
	}
	e.rememberBelief()
	s.Generation = generation + 1
	s.Passed, s.Finalized, s.Checked, s.SpecHash = nil, 0, nil, ""
	s.CleaningSince, s.FallbackRemoved, s.StoresRemoved = time.Time{}, 0, 0
	s.Bases = withNames(withNames(s.Bases, layout.Fixed()), stored.Names()...)

	newer := stored
	if found && published.Generation >= stored.Generation {
		newer = published
	}
	e.rebuildTargets(newer)
	want := Desired{
		Proxy:       s.Desired.Proxy || e.seen.Proxy.Exists,
		PullSecrets: s.Desired.PullSecrets,
		Bootstrap:   including(s.Desired.Bootstrap, s.Active.Upstream),
		Shrunk:      s.Desired.Shrunk,
		Restarts:    s.Desired.Restarts,
	}
	ups := stored.Upstreams()
	if found {
		ups = append(slices.Clone(ups), published.Upstreams()...)
		s.Bases = withNames(s.Bases, published.Names()...)
		// Who serves what is published knows every name in use.
		s.SafeGeneration = published.Generation
	}
	s.Desired.Proxy = want.Proxy
	if len(ups) > 0 {
		want.Layout = newer
		want.Layout.Schema, want.Layout.Generation = layout.Schema, s.Generation
		want.Layout.Routes = layout.Cross(s.Bases, first(newer.Active, ups))
		want.setProxy(e.rebuiltProxy(want.Layout), s.Desired.shrunkOf(InClusterProxy))
	}
	e.rebuildStores(&want)
	want.Bootstrap = including(want.Bootstrap, want.Layout.Upstreams()...)
	for _, u := range want.Layout.Upstreams() {
		// Under both names: what workloads name now is not known.
		want.PullSecrets = including(want.PullSecrets, Target{Mode: Direct, Upstream: u}, Target{Mode: Unmanaged, Upstream: u})
	}
	// Registry and Workloads stay empty until Switch, Own until every node
	// knows its name: what they should say is not known, and what they say now
	// works.
	s.Desired = want
}

// rebuildTargets says what is active and what is wanted, by the newer of the
// stored and the published layout, else by the installation.
func (e *evaluation) rebuildTargets(newer layout.Layout) {
	s := &e.s
	if !newer.IsZero() {
		s.Active = Target{Mode: Mode(newer.ActiveMode), Upstream: newer.Active}
		s.Target = Target{Mode: Mode(newer.Mode), Upstream: newer.Target}
	}
	if s.Active.IsZero() && !e.seen.Installation.IsZero() {
		s.Active = installed(e.seen.Installation)
	}
	if s.Target.IsZero() {
		s.Target = s.Active
	}
	if !s.Active.IsZero() {
		s.Bases = withNames(s.Bases, layout.NameOf(s.Active.Upstream))
	}
}

// rebuiltProxy is the proxy's layout beside a rebuilt one of the agents: the union
// of all that is known of it.
func (e *evaluation) rebuiltProxy(agents layout.Layout) layout.Layout {
	next := e.proxyLayout(agents).Plus(e.s.Desired.ProxyLayout)
	if proxy, found := e.seen.ProxyPublished.read(); found && e.s.Desired.Proxy {
		next = next.Plus(proxy)
	}
	next.Generation = agents.Generation
	return next
}

// first repeats u, if it is there, before all others.
func first(u upstream.Upstream, ups []upstream.Upstream) []upstream.Upstream {
	if !slices.Contains(ups, u) {
		return ups
	}
	return append([]upstream.Upstream{u}, ups...)
}
