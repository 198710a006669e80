package switchover

import (
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Spec is what the user asks for in ModuleConfig deckhouse, parsed.
//
// With ModuleConfig, its section or its CRD gone, or with settings that are
// wrong, the last target holds and Ready says so.
type Spec struct {
	// Mode is empty when there is nothing that can be followed; Problem then
	// says why, as a sentence.
	Mode Mode
	// Upstream is zero for Unmanaged, which takes the registry of the active
	// target.
	Upstream upstream.Upstream
	// TTL is how long a store keeps what nobody uses; 0 is the default. It is no part
	// of a target: a change of it is no switch.
	TTL time.Duration
	// Problem is empty when Mode is set.
	Problem string
	// Generation is that of the ModuleConfig that this was read from; 0 without one.
	// Nothing is decided by it.
	Generation int64
}

// Hash identifies what is asked for: a SHA-256 in hex over mode and
// parameters, passwords included. Empty for a spec that cannot be followed.
func (s Spec) Hash() string {
	if s.Mode == "" {
		return ""
	}
	return upstream.Digest(Target{Mode: s.Mode, Upstream: s.Upstream})
}

// begin makes sure that there is a state to start from, and reports whether
// anything names a registry at all.
func (e *evaluation) begin() bool {
	e.s.Believed = e.recentBeliefs()
	switch {
	case e.lost():
		e.rules.rebuild(e)
	case e.s.Active.IsZero() && e.s.Target.IsZero():
		e.first()
	}
	e.s.Schema = stateSchema
	return !e.s.Active.IsZero() || !e.s.Target.IsZero() || !e.seen.Spec.Upstream.IsZero()
}

// first is the first look at a cluster: it runs on what its installation says,
// checked or not. A switch away from it must serve its name.
func (e *evaluation) first() {
	if e.seen.Installation.IsZero() {
		return
	}
	start := installed(e.seen.Installation)
	e.s.Active = start
	e.s.Bases = withNames(e.s.Bases, e.nameOf(start))
	e.s.Desired.Own = start.Upstream
	e.s.Desired.Bootstrap = []upstream.Upstream{start.Upstream}
	e.setTarget(start)
}

// chooseTarget follows the user: ModuleConfig, or a change of Secret
// deckhouse-registry where that is the user's. An absent spec changes nothing.
func (e *evaluation) chooseTarget() {
	if hash := e.seen.Spec.Hash(); hash != "" && hash != e.s.SpecHash {
		wanted := Target{Mode: e.seen.Spec.Mode, Upstream: e.seen.Spec.Upstream}
		if e.namedInSecret(wanted.Mode) {
			wanted.Upstream = e.s.Active.Upstream
		}
		if !wanted.Upstream.IsZero() {
			e.s.SpecHash = hash
			if wanted != e.s.Target {
				e.setTarget(wanted)
			}
		}
	}
	edited := Target{Mode: e.s.Target.Mode, Upstream: e.seen.Installation}
	if e.registryIsUsers() && !edited.Upstream.IsZero() && edited != e.s.Target {
		e.setTarget(edited)
	}
}

// registryIsUsers reports whether Secret deckhouse-registry is the user's to
// change: if that is where the mode's registry is named, until a switch begins
// to move the platform.
func (e *evaluation) registryIsUsers() bool {
	return e.namedInSecret(e.s.Target.Mode) && e.namedInSecret(e.s.Active.Mode) && e.s.Desired.Registry.IsZero()
}

// setTarget starts a switch, which may be the way back. A change of mind needs
// no special case: what was wanted so far stays wanted until Final, because
// nodes may know it and something may use it.
func (e *evaluation) setTarget(t Target) {
	if t.Mode != e.s.Target.Mode {
		e.s.Conditions = nil
	}
	if !e.namedInSecret(t.Mode) && e.registryIsUsers() && !e.seen.Installation.IsZero() {
		e.s.Desired.Registry = e.s.Active // ours from now on, and healed
	}
	e.fresh = true
	e.s.Target, e.s.Passed, e.s.Finalized = t, nil, 0
	e.s.CleaningSince, e.s.FallbackRemoved, e.s.StoresRemoved = time.Time{}, 0, 0
	e.s.Generation++
	if e.isActive(t) {
		for _, step := range e.modes[t.Mode].plan {
			e.s.Passed = append(e.s.Passed, Passed{Step: step.name, Generation: e.s.Desired.Layout.Generation})
		}
		e.s.Finalized = e.s.Desired.Layout.Generation
	}
}

// isActive reports whether the cluster runs on the target already and nothing
// else was published since: then there is nothing to do.
func (e *evaluation) isActive(t Target) bool {
	want := e.s.Desired
	switch {
	case t != e.s.Active || e.s.Checked == nil || want.Own != t.Upstream:
		return false
	case !want.Registry.IsZero() && want.Registry != t:
		return false
	case want.Workloads != (layout.Name{}) && want.Workloads != e.nameOf(t):
		return false
	case want.Layout.IsZero():
		return !e.hasFixedAddress(t.Mode) && !want.Proxy && want.Store.IsZero()
	}
	return want.Proxy == e.modes[t.Mode].proxy && e.storesAreAs(t) && slices.Equal(want.PullSecrets, []Target{t}) && isFinal(want.Layout, t) &&
		want.LayoutOf(InClusterProxy).SameContent(e.proxyLayout(want.Layout))
}

// isFinal reports whether a layout is what Final makes for a target, whatever
// names it keeps.
func isFinal(l layout.Layout, t Target) bool {
	return l.Mode == string(t.Mode) && l.ActiveMode == l.Mode && l.Active == t.Upstream && l.Target == t.Upstream &&
		!slices.ContainsFunc(l.Routes, func(r layout.Route) bool {
			return len(r.Upstreams) != 1 || r.Upstreams[0] != t.Upstream
		})
}
