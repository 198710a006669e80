package switchover

import (
	"fmt"
	"slices"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// published is the layout that lies in the cluster, if it can be read.
func (x *evaluation) published() (layout.Layout, bool) {
	p := x.w.Published
	return p.Layout, p.Found && p.Problem == "" && !p.Layout.IsZero()
}

// maxGeneration bounds what is believed: it leaves room to count on.
const maxGeneration = 1 << 53

// highestReport is the highest generation that any node ever reported, valid
// or not. A node that was believed once against an intact state must follow
// from then on: otherwise one broken node keeps every switch from ending.
func (x *evaluation) highestReport() int64 {
	var highest int64
	for _, n := range x.w.Nodes {
		if n.Report.Generation <= maxGeneration && !slices.Contains(x.s.Ahead, n.UID) {
			highest = max(highest, n.Report.Generation)
		}
	}
	return highest
}

// rememberAhead notes the nodes whose word alone calls the state lost.
func (x *evaluation) rememberAhead() {
	published, found := x.published()
	if stored := x.s.Desired.Layout; !found || published.Generation != stored.Generation || !published.SameContent(stored) {
		return
	}
	ahead := slices.Clone(x.s.Ahead)
	for _, n := range x.w.Nodes {
		if n.Report.Generation > published.Generation && !slices.Contains(ahead, n.UID) {
			ahead = append(ahead, n.UID)
		}
	}
	x.s.Ahead = ahead
}

// unreadable says why nothing can be decided without guessing, if so.
func (x *evaluation) unreadable() string {
	s := x.s
	switch {
	case s.Schema > stateSchema:
		return fmt.Sprintf("The stored state has schema %d, this program knows %d: it was written by a newer version. Nothing is changed.", s.Schema, stateSchema)
	case s.Active.IsZero() && s.Target.IsZero() && x.w.Published.Found && x.w.Published.Problem != "":
		return "The stored state is lost and Secret " + names.Namespace + "/" + names.SecretLayout + " cannot be read: " + x.w.Published.Problem +
			". Nodes keep what they have. Restore one of them; deleting the Secret starts anew from ModuleConfig and Secret " + names.SecretRegistry + "."
	}
	return ""
}

// lost reports whether the stored state is missing or older than what it led
// to. Nothing is published before it is stored, so a layout or a report that
// the state does not know was made from a later one.
func (x *evaluation) lost() bool {
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
func rebuild(x *evaluation) {
	s := &x.s
	stored := s.Desired.Layout
	published, found := x.published()
	generation := max(s.Generation, published.Generation*btoi(found), x.highestReport()) + 1
	x.rememberAhead()
	s.Generation = generation
	s.Passed, s.Finalized, s.Checked, s.SpecHash = nil, 0, nil, ""
	s.CleaningSince, s.FallbackRemoved = time.Time{}, 0
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
		Restarts:    s.Desired.Restarts,
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
	// Registry and Workloads stay empty until Switch, Own until every node
	// knows its name: what they should say is not known, and what they say now works.
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
