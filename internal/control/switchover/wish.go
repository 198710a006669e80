package switchover

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Hash identifies what is asked for: a SHA-256 in hex over mode and
// parameters, passwords included. Empty for a wish that cannot be followed.
func (w Spec) Hash() string {
	if w.Mode == "" {
		return ""
	}
	data, err := json.Marshal(Target{Mode: w.Mode, Upstream: w.Upstream})
	if err != nil {
		// Strings only: encoding them cannot fail.
		panic(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// begin makes sure that there is a state to go on from, and reports whether
// anything names a registry at all.
func (x *evaluation) begin() bool {
	switch {
	case x.lost():
		x.rules.rebuild(x)
	case x.s.Active.IsZero() && x.s.Target.IsZero():
		x.first()
	}
	x.s.Schema = stateSchema
	return !x.s.Active.IsZero() || !x.s.Target.IsZero() || !x.w.Spec.Upstream.IsZero()
}

// first is the first look at a cluster: it runs on what its installation says,
// checked or not. A switch away from it must serve its name.
func (x *evaluation) first() {
	if x.w.Installation.IsZero() {
		return
	}
	installed := Target{Mode: Unmanaged, Upstream: x.w.Installation}
	x.s.Active = installed
	x.s.Bases = withNames(x.s.Bases, installed.Name())
	x.s.Desired.Own = installed.Upstream
	x.s.Desired.Bootstrap = []upstream.Upstream{installed.Upstream}
	x.setTarget(installed)
}

// chooseTarget follows the user: ModuleConfig, or in Unmanaged a change of
// Secret deckhouse-registry. An absent wish changes nothing.
func (x *evaluation) chooseTarget() {
	if hash := x.w.Spec.Hash(); hash != "" && hash != x.s.SpecHash {
		wanted := Target{Mode: x.w.Spec.Mode, Upstream: x.w.Spec.Upstream}
		if wanted.Mode == Unmanaged {
			wanted.Upstream = x.s.Active.Upstream
		}
		if !wanted.Upstream.IsZero() {
			x.s.SpecHash = hash
			if wanted != x.s.Target {
				x.setTarget(wanted)
			}
		}
	}
	edited := Target{Mode: Unmanaged, Upstream: x.w.Installation}
	if x.registryIsUsers() && !edited.Upstream.IsZero() && edited != x.s.Target {
		x.setTarget(edited)
	}
}

// registryIsUsers reports whether Secret deckhouse-registry is the user's to
// change: in Unmanaged, until a switch begins to move the platform.
func (x *evaluation) registryIsUsers() bool {
	return x.s.Target.Mode == Unmanaged && x.s.Active.Mode == Unmanaged && x.s.Desired.Registry.IsZero()
}

// setTarget starts a switch, which may be the way back. A change of mind is no
// special case: what was wanted so far stays wanted until Final, since nodes
// may know it and something may use it.
func (x *evaluation) setTarget(t Target) {
	if t.Mode != x.s.Target.Mode {
		x.s.Conditions = nil
	}
	if t.Mode != Unmanaged && x.registryIsUsers() && !x.w.Installation.IsZero() {
		x.s.Desired.Registry = x.s.Active // ours from now on, and healed
	}
	x.fresh = true
	x.s.Target, x.s.Passed, x.s.Finalized = t, nil, 0
	x.s.CleaningSince, x.s.FallbackRemoved = time.Time{}, 0
	x.s.Generation++
	if x.isActive(t) {
		for _, step := range x.plans[t.Mode] {
			x.s.Passed = append(x.s.Passed, Passed{Step: step.name, Generation: x.s.Desired.Layout.Generation})
		}
		x.s.Finalized = x.s.Desired.Layout.Generation
	}
}

// isActive reports whether the target is what the cluster runs on already and
// nothing else was published since: then there is nothing to do.
func (x *evaluation) isActive(t Target) bool {
	want := x.s.Desired
	switch {
	case t != x.s.Active || x.s.Checked == nil || want.Own != t.Upstream:
		return false
	case !want.Registry.IsZero() && want.Registry != t:
		return false
	case want.Workloads != (layout.Name{}) && want.Workloads != t.Name():
		return false
	case want.Layout.IsZero():
		return t.Mode == Unmanaged && !want.Proxy
	}
	return want.Proxy == (t.Mode == Direct) && slices.Equal(want.PullSecrets, []Target{t}) && isFinal(want.Layout, t)
}

// isFinal reports whether a layout is what Final makes for a target, whatever
// names it keeps.
func isFinal(l layout.Layout, t Target) bool {
	return l.Mode == string(t.Mode) && l.ActiveMode == l.Mode && l.Active == t.Upstream && l.Target == t.Upstream &&
		!slices.ContainsFunc(l.Routes, func(r layout.Route) bool {
			return len(r.Upstreams) != 1 || r.Upstreams[0] != t.Upstream
		})
}
