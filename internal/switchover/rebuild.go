package switchover

import (
	"slices"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// published is the layout that lies in the cluster, if it can be read.
func (x *pass) published() (layout.Layout, bool) {
	p := x.w.Published
	return p.Layout, p.Found && p.Problem == "" && !p.Layout.IsZero()
}

// highestReport is the highest generation that any node ever reported, valid
// or not.
func (x *pass) highestReport() int64 {
	var highest int64
	for _, n := range x.w.Nodes {
		highest = max(highest, n.Report.Generation)
	}
	return highest
}

// lost reports whether the stored state is missing or older than what it led
// to. Nothing is published before it is stored, so a layout or a report that
// the state does not know was made from a later one.
func (x *pass) lost() bool {
	stored := x.s.Desired.Layout
	published, found := x.published()
	reported := x.highestReport()
	switch {
	case x.s.Active.IsZero() && x.s.Target.IsZero():
		return found || reported > x.s.Generation
	case found && published.Generation > stored.Generation:
		return true
	case found && published.Generation == stored.Generation && !published.SameContent(stored):
		return true
	case found && x.s.MayPublish(x.w.Published) != nil:
		return true // rebuilt from an older look at it
	case stored.IsZero() && !x.s.Desired.Legacy:
		return reported > 0 && reported >= x.s.Generation
	case stored.IsZero():
		return reported > x.s.Generation
	}
	return reported > stored.Generation
}

// rebuild makes a state from what is left. It forgets how far the switch was,
// and nothing that nodes may know or that may be in use: what is wanted is the
// union of all that is known, until a Final of its own.
func rebuild(x *pass) {
	s := &x.s
	stored := s.Desired.Layout
	published, found := x.published()
	s.Generation = max(s.Generation, published.Generation*btoi(found), x.highestReport()) + 1
	s.Passed, s.Finalized, s.Checked, s.WishHash = nil, 0, nil, ""
	s.Bases = withNames(withNames(s.Bases, layout.Fixed()), stored.Names()...)

	newer := stored
	if found && published.Generation >= stored.Generation {
		newer = published
	}
	if !newer.IsZero() {
		s.Active = Target{Mode: Mode(newer.ActiveMode), Upstream: newer.Active}
		s.Target = Target{Mode: Mode(newer.Mode), Upstream: newer.Target}
	}
	if s.Active.IsZero() && !x.w.Installation.IsZero() {
		s.Active = Target{Mode: Unmanaged, Upstream: x.w.Installation}
	}
	if s.Target.IsZero() {
		s.Target = s.Active
	}
	if !s.Active.IsZero() {
		s.Bases = withNames(s.Bases, layout.NameOf(s.Active.Upstream))
	}

	want := Desired{
		Proxy:       s.Desired.Proxy || x.w.Proxy.Exists,
		PullSecrets: s.Desired.PullSecrets,
		Bootstrap:   withUpstreams(s.Desired.Bootstrap, s.Active.Upstream),
		Shrunk:      s.Desired.Shrunk,
	}
	ups := stored.Upstreams()
	if found {
		ups = append(slices.Clone(ups), published.Upstreams()...)
		s.Bases = withNames(s.Bases, published.Names()...)
		// Who serves what is published knows every name in use.
		s.SafeGeneration = published.Generation
	}
	if len(ups) > 0 {
		want.Layout = newer
		want.Layout.Schema, want.Layout.Generation = layout.Schema, s.Generation
		want.Layout.Routes = layout.Cross(s.Bases, first(newer.Active, ups))
	}
	want.Bootstrap = withUpstreams(want.Bootstrap, want.Layout.Upstreams()...)
	for _, u := range want.Layout.Upstreams() {
		want.PullSecrets = withTargets(want.PullSecrets, Target{Mode: Direct, Upstream: u}, Target{Mode: Unmanaged, Upstream: u})
	}
	// Registry, Workloads and Own stay empty: what they should say is not known
	// before Switch, and what they say now works.
	s.Desired = want
}

// first moves u, if it is there, to the front.
func first(u upstream.Upstream, ups []upstream.Upstream) []upstream.Upstream {
	if !slices.Contains(ups, u) {
		return ups
	}
	return append([]upstream.Upstream{u}, ups...)
}

func btoi(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
