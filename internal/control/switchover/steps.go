package switchover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// A step may run any number of times. It edits what is wanted, then compares
// it with what was seen.

// haveImages waits until the target has every image that is in use anywhere.
// Credentials that fail here never reach a node.
func haveImages(e *evaluation) verdict {
	if e.seen.Census.Problem != "" {
		return wait(foreign.Line(e.seen.Census.Problem, mostMessage))
	}
	if message := e.unreadableAddress(); message != "" {
		return wait(message)
	}
	request := e.checkRequest()
	report := e.seen.Check
	if !report.passed(request) {
		return wait(checkMessage(request, report))
	}
	e.s.Checked = &Checked{
		Registry: request.Upstream.Host, Fingerprint: report.Fingerprint, Items: report.Total, At: report.At,
	}
	if e.s.Desired.Layout.IsZero() {
		e.makeOwn()
	}
	if e.untouched() {
		// The user has moved the cluster already: a switch that starts before
		// this one ends must start from there.
		e.s.Active = e.s.Target
	}
	return done(withLines(checkMessage(request, report), e.uncheckedMessage()))
}

// nodesHaveNoCustomConfig waits until nothing in containerd's configuration
// clashes with ours, on every node. It is not asked once a layout is on the
// nodes: what appears later is reported by the node.
func nodesHaveNoCustomConfig(e *evaluation) verdict {
	if !e.s.Desired.Layout.IsZero() {
		return done("")
	}
	unready, of := e.waitingFor(func(n Node) bool {
		return e.rules.valid(n) && n.Unsupported == "" && n.Report.Preflight == PreflightReady
	})
	if len(unready) > 0 || of == 0 {
		return wait(e.preflightMessage(unready, of))
	}
	return done("")
}

// nodesKnowOldAndNew publishes the union: every name ever handed out, served by
// every registry that may be in use. So the death of either registry loses no
// pull from here to Final.
func nodesKnowOldAndNew(e *evaluation) verdict {
	if e.untouched() {
		return done("")
	}
	e.widen()
	want := &e.s.Desired
	want.Legacy = false
	if v := e.barrier(want.Layout.Generation); !v.done {
		return v
	}
	e.s.SafeGeneration = want.Layout.Generation
	e.makeOwn()
	return done("")
}

// makeOwn is for a lost state: from which registry our own workloads pull is not
// known. It sets it to the target, because without agents and proxy no step can be
// done. If a layout is published, this is safe only once every node knows the name.
func (e *evaluation) makeOwn() {
	want := &e.s.Desired
	if want.Own.IsZero() {
		want.Own = e.s.Target.Upstream
		want.Bootstrap = including(want.Bootstrap, want.Own)
		// The user may go on to another target before anything is published.
		e.s.Bases = withNames(e.s.Bases, layout.NameOf(want.Own))
	}
}

// proxyRuns starts the in-cluster proxy and waits until it serves its layout.
func proxyRuns(e *evaluation) verdict {
	want, proxy := &e.s.Desired, e.seen.Proxy
	if !want.Proxy {
		want.Proxy = true
		e.publish(want.Layout) // the proxy may have a layout of its own
	}
	generation := want.LayoutOf(InClusterProxy).Generation
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
func platformUsesNew(e *evaluation) verdict {
	want, target := &e.s.Desired, e.s.Target
	if e.untouched() {
		want.Own = target.Upstream
		want.Bootstrap = including([]upstream.Upstream{target.Upstream}, want.Bootstrap...)
		if len(want.PullSecrets) > 0 { // ours since an earlier switch
			want.PullSecrets = including([]Target{target}, want.PullSecrets...)
		}
		e.s.Bases = withNames(e.s.Bases, e.nameOf(target))
		if !e.seen.Platform.Moved && !slices.Equal(want.Bootstrap, []upstream.Upstream{target.Upstream}) {
			return wait(platformMessage(e.seen.Platform, "Updating the module's own workloads"))
		}
		return done("")
	}
	if v := e.rules.safeNow(e); !v.done {
		return v
	}
	e.chooseService()
	want.Registry, want.Workloads, want.Own = target, e.nameOf(target), target.Upstream
	want.PullSecrets = including([]Target{target}, want.PullSecrets...)
	seen := e.seen.Platform
	switch {
	case seen.Target != target:
		return wait("Updating registry for deckhouse components")
	case len(seen.Refused) > 0:
		return wait("Updating registry for deckhouse components: " + strings.Join(capped(seen.Refused, mostUsers), "\n"))
	case !seen.Moved:
		return wait(platformMessage(seen, "Updating registry for deckhouse components"))
	}
	if misplaced := e.misplaced(); len(misplaced) > 0 {
		return wait(misplacedMessage(want.Workloads, misplaced))
	}
	return done(skippedMessage(seen.Skipped))
}

// nodesKnowOnlyNew takes the old registry out for good, and the names that
// nothing refers to. It and Cleanup are the only steps that make a layout
// smaller, and only after mayShrink looked, in this pass, at all that could
// still need what goes.
func nodesKnowOnlyNew(e *evaluation) verdict {
	if e.untouched() {
		e.s.Desired.Bootstrap = []upstream.Upstream{e.s.Target.Upstream}
		if len(e.s.Desired.PullSecrets) > 0 {
			e.s.Desired.PullSecrets = []Target{e.s.Target}
		}
		return done("")
	}
	if e.s.Finalized == 0 {
		if v := e.rules.mayShrink(e); !v.done {
			return v
		}
		e.shrink(e.rules.keep(e))
	}
	if v := e.barrier(e.s.Finalized); !v.done {
		return v
	}
	return done(withLines(e.keptMessage(), e.uncheckedMessage()))
}

// proxyIsGone stops the in-cluster proxy once no client uses it any more. Nodes
// drop their fallback to it first: no node may be sent where nothing listens. Where
// stores stand in for the proxy the fallback stays, and leads to them.
func proxyIsGone(e *evaluation) verdict {
	want, proxy := &e.s.Desired, e.seen.Proxy
	stores := e.modes[e.s.Target.Mode].store
	if want.Proxy && proxy.Exists {
		if stores && e.seen.Store.Ready == 0 {
			return wait(storesMessage(e.seen.Store, want.StoreLayout))
		}
		if e.isUsed(proxy.LastUse) {
			return wait(inUseMessage("incluster-proxy", proxy.Clients))
		}
	}
	if !stores {
		e.dropFallback()
	}
	if v := e.barrier(e.s.FallbackRemoved); e.s.FallbackRemoved > 0 && !v.done {
		return v
	}
	if want.Proxy {
		want.Proxy, e.s.NamesChecked = false, time.Time{} // the fixed name was kept for its clients
		want.ProxyLayout, want.ProxyShrunk = layout.Layout{}, 0
	}
	if proxy.Exists {
		return wait("Stopping incluster-proxy...")
	}
	return e.nameIsGone()
}

// isUsed reports whether what is to be stopped is still used, or may be.
func (e *evaluation) isUsed(last time.Time) bool {
	if e.s.CleaningSince.IsZero() {
		e.s.CleaningSince = e.seen.Now
	}
	if last.IsZero() {
		last = e.s.CleaningSince
	}
	return e.seen.Now.Sub(last) < e.seen.Settings.ProxyIdle && e.seen.Now.Sub(e.s.CleaningSince) < e.seen.Settings.ProxyIdleMax
}

// dropFallback takes nodes' second way out of the layout.
func (e *evaluation) dropFallback() {
	if next := e.s.Desired.Layout; next.Fallback != (layout.Fallback{}) {
		next.Fallback = layout.Fallback{}
		e.publish(next)
		e.s.FallbackRemoved = e.s.Desired.Layout.Generation
	}
}

// nameIsGone takes out the fixed name, if nothing refers to it. It waits for
// the nodes, so that the last layout of a switch is everywhere when it ends.
func (e *evaluation) nameIsGone() verdict {
	if e.namesAreDue() {
		if v := e.rules.mayShrink(e); !v.done {
			return v
		}
		e.shrink(e.rules.keep(e))
	}
	if v := e.barrier(e.s.Finalized); e.s.Finalized > 0 && !v.done {
		return v
	}
	return done("")
}

// union is what nodes must know during a switch: all known names × all
// registries that may be in use.
func union(e *evaluation) layout.Layout {
	s, l := e.s, e.s.Desired.Layout
	ups := l.Upstreams()
	if l.IsZero() {
		l.ActiveMode, l.Active = string(s.Active.Mode), s.Active.Upstream
		if !s.Active.IsZero() {
			ups = append(ups, s.Active.Upstream)
		}
	}
	if l.Target != s.Target.Upstream || l.Probe == "" {
		l.Probe = e.seen.Probe // once for a target: an upgrade of the module changes no layout
	}
	l.Mode, l.Target = string(s.Target.Mode), s.Target.Upstream
	if l.Stores.IsZero() && e.modes[s.Target.Mode].store && s.passed(names.ConditionStores) {
		l.Stores = e.endpoints()
		if l.Fallback == (layout.Fallback{}) {
			l.Fallback = e.seen.Proxy.Fallback // with the stores, and not as another layout for every node
		}
	}
	known := withNames(s.Bases, e.ownNames(s.Target)...)
	for _, u := range ups {
		known = withNames(known, layout.NameOf(u))
	}
	// The registry that served until now stays first for names that are no
	// registry's own.
	l.Routes = layout.Cross(known, append(first(l.Active, ups), s.Target.Upstream))
	return l
}

// shrink makes the target the only registry, for the names in keep. Nothing else
// takes anything out of a layout.
func (e *evaluation) shrink(keep []layout.Name) {
	target := e.s.Target
	next := layout.Layout{
		Mode:       string(target.Mode),
		ActiveMode: string(target.Mode),
		Active:     target.Upstream,
		Target:     target.Upstream,
		Probe:      e.s.Desired.Layout.Probe,
		Stores:     e.s.Desired.Layout.Stores,
		Routes:     layout.Cross(keep, []upstream.Upstream{target.Upstream}),
	}
	if slices.Contains(keep, layout.Fixed()) {
		next.Fallback = e.s.Desired.Layout.Fallback
	}
	e.setLayouts(next, e.proxyLayout(next))
	e.setStoreLayout(e.rules.stores(e, next))
	e.s.Desired.PullSecrets = []Target{target}
	e.s.Desired.Bootstrap = []upstream.Upstream{target.Upstream}
	e.s.Bases = next.Names()
	e.s.Finalized = e.s.Desired.Layout.Generation
	e.s.NamesChecked = e.seen.Now
}

// afterReady is what a step still does once the switch has ended.
func (e *evaluation) afterReady(step string) (v verdict, changed bool) {
	switch step {
	case names.ConditionSwitch:
		return done(skippedMessage(e.seen.Platform.Skipped)), true
	case names.ConditionStores:
		return done(standingStoresMessage(e.seen.Store)), true
	case names.ConditionCleanupStores:
		return done(leftStoresMessage(e.seen.Store)), true
	case names.ConditionFinal:
	default:
		return verdict{}, false
	}
	e.orderLegacy()
	switch {
	case e.s.Desired.Legacy:
		return e.legacyBarrier(), true
	case !e.untouched() && e.namesAreDue():
		if e.rules.mayShrink(e).done {
			e.shrink(e.rules.keep(e))
			return done(withLines(e.keptMessage(), e.uncheckedMessage())), true
		}
		if e.givesUp() {
			e.s.NamesChecked = e.seen.Now
		}
	}
	return verdict{}, false
}

// givesUp reports whether names that were kept cannot go now. The next try is after
// the usual time, and not in every pass.
func (e *evaluation) givesUp() bool {
	check, census := e.seen.Check, e.seen.Census
	late := e.seen.Now.Sub(e.s.NamesChecked) >= 2*e.seen.Settings.RecheckNames
	return !e.rules.safeNow(e).done || census.Live && census.Problem != "" || check.Problem != "" || check.OwnDiffers != "" || check.FailureCount > 0 ||
		late && !check.underWay()
}

// namesAreDue reports whether it is time to look whether names that were kept
// are still in use.
func (e *evaluation) namesAreDue() bool {
	return e.keepsNames() && e.seen.Now.Sub(e.s.NamesChecked) >= e.seen.Settings.RecheckNames
}

// orderLegacy notices that the user deleted the layout's Secret in Unmanaged
// and Ready, which means: back to the legacy containerd format. An agent obeys
// only this order, never an absent layout.
func (e *evaluation) orderLegacy() {
	if !e.asksForLegacy() {
		return
	}
	if e.keepsNames() && e.namesAreLive() {
		return // the platform needs them: the layout is published again
	}
	e.s.Desired.Layout, e.s.Desired.ProxyLayout, e.s.Desired.ProxyShrunk = layout.Layout{}, layout.Layout{}, 0
	e.s.Desired.Legacy, e.s.SafeGeneration = true, 0
}

func (e *evaluation) asksForLegacy() bool {
	return !e.hasFixedAddress(e.s.Target.Mode) && !e.s.Desired.Layout.IsZero() && !e.seen.Published.Found && e.seen.Published.Problem == ""
}

// namesAreLive reports whether anything of the platform that runs needs the names
// that the layout keeps. Old revisions and our own pods do not count. They always
// name the old address; if they counted, the order could never be followed. Nor
// does what is not the platform's: the operator's word is not a tenant's to refuse.
func (e *evaluation) namesAreLive() bool {
	census := e.seen.Census
	if !census.Live || census.Problem != "" {
		return true // as far as we know
	}
	return slices.ContainsFunc(census.References, func(r Reference) bool { return e.needsLayout(r) && e.rules.gates(e, r) })
}

// needsLayout reports whether something that runs refers to a name that only a
// layout serves.
func (e *evaluation) needsLayout(r Reference) bool {
	return !r.Retained && !r.OwnWorkload && !slices.Contains(e.ownNames(e.s.Target), r.Name)
}

// keepsNames reports whether the layout has more names than the target needs.
func (e *evaluation) keepsNames() bool {
	return len(e.s.Desired.Layout.Routes) > len(e.ownNames(e.s.Target))
}

// legacyBarrier is done when every counting node is back in the legacy
// containerd format. Its message is made once: tenants come and go.
func (e *evaluation) legacyBarrier() verdict {
	waiting, of := e.waitingFor(func(n Node) bool { return e.rules.valid(n) && n.Report.Legacy })
	if len(waiting) > 0 {
		return wait(e.legacyMessage(waiting, of))
	}
	if c := e.s.condition(names.ConditionFinal); c != nil && c.Status == metav1.ConditionTrue && e.was.Desired.Legacy {
		return done(c.Message)
	}
	return done(e.leftMessage())
}
