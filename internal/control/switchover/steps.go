package switchover

import (
	"fmt"
	"slices"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// A step may run any number of times. It edits what is wanted, then compares
// it with what was seen.

// haveImages waits until the target has every image that is in use anywhere.
// Credentials that fail here never reach a node.
func haveImages(x *evaluation) verdict {
	if x.w.Census.Problem != "" {
		return wait(x.w.Census.Problem)
	}
	request := checkRequest(x.s, x.w)
	report := x.w.Check
	if !report.passed(request) {
		return wait(checkMessage(request, report))
	}
	x.s.Checked = &Checked{
		Registry: request.Upstream.Host, Fingerprint: report.Fingerprint, Items: report.Total, At: report.At,
	}
	if x.s.Desired.Layout.IsZero() {
		x.makeOwn()
	}
	if x.untouched() {
		// The user has moved the cluster already: a switch that starts before
		// this one ends must start from there.
		x.s.Active = x.s.Target
	}
	return done(checkMessage(request, report))
}

// nodesHaveNoCustomConfig waits until containerd's configuration leaves room
// for ours on every node. Once a layout is on the nodes it does: what appears
// later is the node's to report.
func nodesHaveNoCustomConfig(x *evaluation) verdict {
	if !x.s.Desired.Layout.IsZero() {
		return done("")
	}
	unready, of := x.waitingFor(func(n Node) bool {
		return x.rules.valid(n) && n.Unsupported == "" && n.Report.Preflight == PreflightReady
	})
	if len(unready) > 0 || of == 0 {
		return wait(preflightMessage(unready, of))
	}
	return done("")
}

// nodesKnowOldAndNew publishes the union: every name ever handed out, served by
// every registry that may be in use. So the death of either registry loses no
// pull from here to Final.
func nodesKnowOldAndNew(x *evaluation) verdict {
	if x.untouched() {
		return done("")
	}
	want, target := &x.s.Desired, x.s.Target
	// The pull secrets come first: nothing may be re-pointed without them.
	want.PullSecrets = withTargets([]Target{target}, append(slices.Clone(want.PullSecrets), x.s.Active)...)
	want.Bootstrap = withUpstreams([]upstream.Upstream{target.Upstream}, want.Bootstrap...)
	x.publish(x.rules.union(x.s))
	want.Legacy = false
	x.s.Bases = withNames(x.s.Bases, want.Layout.Names()...)
	if v := x.barrier(want.Layout.Generation); !v.done {
		return v
	}
	x.s.SafeGeneration = want.Layout.Generation
	x.makeOwn()
	return done("")
}

// makeOwn says where our own workloads come from if a lost state left it open:
// without agents and proxy no step goes on. Where a layout is published that
// is safe only once every node knows the name.
func (x *evaluation) makeOwn() {
	want := &x.s.Desired
	if want.Own.IsZero() {
		want.Own = x.s.Target.Upstream
		want.Bootstrap = withUpstreams(want.Bootstrap, want.Own)
	}
}

// proxyRuns starts the in-cluster proxy and waits until it serves this layout.
func proxyRuns(x *evaluation) verdict {
	want, proxy := &x.s.Desired, x.w.Proxy
	want.Proxy = true
	generation := want.Layout.Generation
	switch {
	case !proxy.Exists || proxy.Wanted == 0:
		return wait("Deploying incluster-proxy...")
	case proxy.Ready < proxy.Wanted, proxy.Message != "":
		return wait(proxyMessage(proxy))
	case proxy.Generation < generation:
		return wait(fmt.Sprintf("Incluster-proxy deployment version mismatch: current %d, expected %d.", proxy.Generation, generation))
	case want.Layout.Fallback == layout.Fallback{}:
		return wait("Incluster-proxy deploying in progress: Service has no address yet.")
	case proxy.Pulled < generation:
		return wait("Incluster-proxy deploying in progress: no image was pulled through the Service yet.")
	}
	return done("")
}

// platformUsesNew re-points the platform, and last our own workloads. It
// starts only while every counting node knows the new name.
func platformUsesNew(x *evaluation) verdict {
	want, target := &x.s.Desired, x.s.Target
	if x.untouched() {
		want.Own = target.Upstream
		want.Bootstrap = withUpstreams([]upstream.Upstream{target.Upstream}, want.Bootstrap...)
		if len(want.PullSecrets) > 0 { // ours since an earlier switch
			want.PullSecrets = withTargets([]Target{target}, want.PullSecrets...)
		}
		x.s.Bases = withNames(x.s.Bases, target.Name())
		if !x.w.Platform.Moved && !slices.Equal(want.Bootstrap, []upstream.Upstream{target.Upstream}) {
			return wait(orElse(x.w.Platform.Message, "Updating the module's own workloads"))
		}
		return done("")
	}
	if v := x.rules.safeNow(x); !v.done {
		return v
	}
	want.Registry, want.Workloads, want.Own = target, target.Name(), target.Upstream
	want.PullSecrets = withTargets([]Target{target}, want.PullSecrets...)
	seen := x.w.Platform
	switch {
	case seen.Target != target:
		return wait("Updating registry for deckhouse components")
	case seen.Refused != "":
		return wait("Updating registry for deckhouse components: " + seen.Refused)
	case !seen.Moved:
		return wait(orElse(seen.Message, "Updating registry for deckhouse components"))
	}
	if left := x.misplaced(); len(left) > 0 {
		return wait(misplacedMessage(target.Name(), left))
	}
	return done(skippedMessage(seen.Skipped))
}

// nodesKnowOnlyNew takes the old registry out for good, and the names that
// nothing refers to. It is the only step that makes a layout smaller, and does
// so only if all that could contradict was looked at in this pass.
func nodesKnowOnlyNew(x *evaluation) verdict {
	if x.untouched() {
		x.s.Desired.Bootstrap = []upstream.Upstream{x.s.Target.Upstream}
		if len(x.s.Desired.PullSecrets) > 0 {
			x.s.Desired.PullSecrets = []Target{x.s.Target}
		}
		return done("")
	}
	if x.s.Finalized == 0 {
		if v := x.rules.mayShrink(x); !v.done {
			return v
		}
		x.shrink(x.rules.keep(x))
	}
	if v := x.barrier(x.s.Finalized); !v.done {
		return v
	}
	return done(keptMessage(x.s, x.w.Census))
}

// proxyIsGone stops the in-cluster proxy once nobody uses it any more. Nodes
// forget the way through it first: so the last layout of a switch is everywhere
// when it ends, and nobody is sent where nothing listens.
func proxyIsGone(x *evaluation) verdict {
	want, proxy := &x.s.Desired, x.w.Proxy
	if want.Proxy && proxy.Exists {
		if x.s.CleaningSince.IsZero() {
			x.s.CleaningSince = x.w.Now
		}
		used := proxy.LastUse
		if used.IsZero() {
			used = x.s.CleaningSince
		}
		if x.w.Now.Sub(used) < x.w.Settings.ProxyIdle && x.w.Now.Sub(x.s.CleaningSince) < x.w.Settings.ProxyIdleMax {
			return wait(proxyInUseMessage(proxy))
		}
	}
	if next := want.Layout; next.Fallback != (layout.Fallback{}) {
		next.Fallback = layout.Fallback{}
		x.publish(next)
		x.s.FallbackRemoved = want.Layout.Generation
	}
	if v := x.barrier(x.s.FallbackRemoved); x.s.FallbackRemoved > 0 && !v.done {
		return v
	}
	if want.Proxy {
		want.Proxy, x.s.NamesChecked = false, time.Time{} // the fixed name was kept for its clients
	}
	if proxy.Exists {
		return wait("Stopping incluster-proxy...")
	}
	return x.nameIsGone()
}

// nameIsGone takes out the fixed name, if nothing refers to it, so that the
// last layout of a switch is everywhere when it ends.
func (x *evaluation) nameIsGone() verdict {
	if x.namesAreDue() {
		if v := x.rules.mayShrink(x); !v.done {
			return v
		}
		x.shrink(x.rules.keep(x))
	}
	if v := x.barrier(x.s.Finalized); x.s.Finalized > 0 && !v.done {
		return v
	}
	return done("")
}

// union is what nodes must know during a switch: all known names × all
// registries that may be in use.
func union(s State) layout.Layout {
	l := s.Desired.Layout
	ups := l.Upstreams()
	if l.IsZero() {
		l.ActiveMode, l.Active = string(s.Active.Mode), s.Active.Upstream
		if !s.Active.IsZero() {
			ups = append(ups, s.Active.Upstream)
		}
	}
	l.Mode, l.Target = string(s.Target.Mode), s.Target.Upstream
	known := withNames(s.Bases, s.Target.Name(), layout.NameOf(s.Target.Upstream))
	for _, u := range ups {
		known = withNames(known, layout.NameOf(u))
	}
	// The one that served until now stays first where no name is its own.
	if i := slices.Index(ups, l.Active); i > 0 {
		ups = slices.Concat(ups[i:i+1], ups[:i], ups[i+1:])
	}
	l.Routes = layout.Cross(known, append(ups, s.Target.Upstream))
	return l
}

// shrink makes the target the only registry, serving the names in keep.
func (x *evaluation) shrink(keep []layout.Name) {
	target := x.s.Target
	next := layout.Layout{
		Mode:       string(target.Mode),
		ActiveMode: string(target.Mode),
		Active:     target.Upstream,
		Target:     target.Upstream,
		Routes:     layout.Cross(keep, []upstream.Upstream{target.Upstream}),
	}
	if slices.Contains(keep, layout.Fixed()) {
		next.Fallback = x.s.Desired.Layout.Fallback
	}
	x.publish(next)
	x.s.Desired.PullSecrets = []Target{target}
	x.s.Desired.Bootstrap = []upstream.Upstream{target.Upstream}
	x.s.Bases = next.Names()
	x.s.Finalized = x.s.Desired.Layout.Generation
	x.s.NamesChecked = x.w.Now
}

// afterReady is what a step still does once the switch has ended.
func (x *evaluation) afterReady(step string) (v verdict, changed bool) {
	switch step {
	case names.ConditionSwitch:
		return done(skippedMessage(x.w.Platform.Skipped)), true
	case names.ConditionFinal:
	default:
		return verdict{}, false
	}
	x.orderLegacy()
	switch {
	case x.s.Desired.Legacy:
		return x.legacyBarrier(), true
	case !x.untouched() && x.namesAreDue():
		// Due is done: what could not be looked at or could not go now is asked
		// again after the usual time, not in every pass.
		x.s.NamesChecked = x.w.Now
		if x.w.Census.Live && x.rules.mayShrink(x).done {
			x.shrink(x.rules.keep(x))
			return done(keptMessage(x.s, x.w.Census)), true
		}
	}
	return verdict{}, false
}

// namesAreDue reports whether it is time to look whether names that were kept
// are still in use.
func (x *evaluation) namesAreDue() bool {
	return x.keepsNames() && x.w.Now.Sub(x.s.NamesChecked) >= x.w.Settings.RecheckNames
}

// orderLegacy notices that the user deleted the layout's Secret in Unmanaged
// and Ready, which means: back to the legacy containerd format. An agent obeys
// only this order, never an absent layout.
func (x *evaluation) orderLegacy() {
	if !x.asksForLegacy() {
		return
	}
	if x.keepsNames() && x.namesAreLive() {
		return // somebody needs them: the layout is published again
	}
	x.s.Desired.Layout, x.s.Desired.Legacy, x.s.SafeGeneration = layout.Layout{}, true, 0
}

func (x *evaluation) asksForLegacy() bool {
	return x.s.Target.Mode == Unmanaged && !x.s.Desired.Layout.IsZero() && !x.w.Published.Found && x.w.Published.Problem == ""
}

// namesAreLive reports whether anything but the past needs the names that the
// layout keeps. Revisions to roll back to do not count against the user's own
// order, nor do our own running pods: old ones would keep every cluster that
// ever switched from obeying it.
func (x *evaluation) namesAreLive() bool {
	census, own := x.w.Census, ownNames(x.s.Target)
	if !census.Live || census.Problem != "" {
		return true // as far as we know
	}
	return slices.ContainsFunc(census.References, func(r Reference) bool {
		return !r.Retained && !r.OwnWorkload && !slices.Contains(own, r.Name)
	})
}

// keepsNames reports whether the layout has more names than the target needs.
func (x *evaluation) keepsNames() bool {
	return len(x.s.Desired.Layout.Routes) > len(ownNames(x.s.Target))
}

// ownNames are the names that a target needs, whatever else is in use.
func ownNames(t Target) []layout.Name {
	return withNames(nil, t.Name(), layout.NameOf(t.Upstream))
}

// legacyBarrier is done when every counting node is back in the legacy
// containerd format.
func (x *evaluation) legacyBarrier() verdict {
	waiting, of := x.waitingFor(func(n Node) bool { return x.rules.valid(n) && n.Report.Legacy })
	if len(waiting) == 0 {
		return done("")
	}
	return wait(x.legacyMessage(waiting, of))
}
