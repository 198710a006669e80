package switchover

import (
	"fmt"
	"slices"
	"strings"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// The promises, and what the world may count on for them: entitled are the
// registries of which one must live. A registry is one of them from the moment
// that every counting node was seen to know it, until Final takes it out.

func (s *sim) violate(format string, args ...any) {
	if s.violation == "" {
		s.violation = fmt.Sprintf(format, args...)
		s.logf("VIOLATION: %s", s.violation)
	}
}

func (s *sim) watch(old, next State) {
	// However often somebody lies, there is room to count on.
	known := max(old.Generation, s.layout.Generation, s.proxySecret.Generation)
	for _, n := range s.nodes {
		known = max(known, n.mem.Generation)
	}
	if next.Generation < old.Generation || next.Generation-known > maxJump+3 {
		s.violate("from generation %d to %d", known, next.Generation)
	}
	newly := func(step string) bool {
		has := func(st State) bool {
			return slices.ContainsFunc(st.Passed, func(p Passed) bool { return p.Step == step })
		}
		return has(next) && !has(old)
	}
	target := s.bit(next.Target.Upstream)
	if newly(names.ConditionTransition) && !next.Desired.Layout.IsZero() && next.Finalized == 0 {
		s.entitled |= target
		s.safe = next.SafeGeneration
	}
	if newly(names.ConditionPreflight) && old.Desired.Layout.IsZero() && !s.found { // else it was not asked
		s.unseen = nil
		for _, n := range s.nodes {
			if !n.ready || n.away {
				s.unseen = append(s.unseen, n.uid)
			}
		}
	}
	stores := !old.Desired.Store.IsZero() // then the Service leads to who has waited only from Switch on
	if newly(names.ConditionProxy) && !stores || newly(names.ConditionSwitch) && stores && s.p.hasFixedAddress(next.Target.Mode) {
		s.entitledProxy |= target
	}
	s.watchStores(old, next)
	if next.Finalized != 0 && old.Finalized == 0 && s.isAlive(next.Target.Upstream) {
		s.entitled, s.entitledProxy = target, target
	}
	if !next.Desired.Layout.IsZero() && !next.Desired.Layout.Covers(old.Desired.Layout) {
		s.takesAway(next)
	}
	if next.Ready() && !s.cut {
		s.namesWhoIsBehind(next)
	}
	if to := next.Desired.Workloads; next.Desired.Repoint && s.deployment.template != to {
		s.startsToMove(next, to)
	}
	if next.Desired.Legacy && !old.Desired.Legacy {
		s.safe = 0
	}
	s.watchApprovals(old, next)
	if old.Desired.Proxy && !next.Desired.Proxy {
		s.proxyStops(next)
	}
	if next.Active != old.Active {
		s.switches++
	}
	moved := next.Active != old.Active && old.Schema != 0 && !next.Desired.Layout.IsZero()
	seen := s.census[0].Name == s.deployment.template // the cache is not behind
	if moved && next.Ready() && seen && s.deployment.template != next.Target.Name() {
		s.violate("Ready for %s while the platform uses %s", next.Target.Name(), s.deployment.template)
	}
}

// What is left out of promises, and why nothing else can be:
//   - fresh: a kubelet makes its Node, and pods may come before anybody can taint it;
//   - away: containerd may name an agent that the operator has sent away;
//   - stale: only a node that speaks can show that its report is out of a backup;
//   - forgot: workloads of a backup name what this node has forgotten;
//   - lies: what a node does whose agent lies is its own affair.

// counted: what nodes a switch must not go on without. What the product knows of
// them, and what others do to its objects, has no part in it.
func counted(next State, n *simNode) bool {
	excluded := slices.ContainsFunc(next.Excluded, func(e Exclusion) bool { return e.UID == n.uid })
	return n.ready && !n.came && !n.away && !n.stale && !n.lies && !excluded
}

// takesAway: a node that counts must know who serves after Final.
func (s *sim) takesAway(next State) {
	target := s.bit(next.Target.Upstream)
	for _, n := range s.nodes {
		if counted(next, n) && s.upstreamsOf(n.mem)&target == 0 {
			s.violate("Final takes away all but %s, and %s, which counts, does not know it", next.Target.Upstream.Host, n.name)
		}
	}
}

// namesWhoIsBehind: who is Ready and does not have what was proved is named.
func (s *sim) namesWhoIsBehind(next State) {
	ready := next.condition(names.ConditionReady)
	for i, n := range s.nodes {
		seen := s.cached[min(i, len(s.cached)-1)] // as the pass did
		behind := !n.stale && !n.lies && n.mem.Generation < next.SafeGeneration
		lie := seen.UID == n.uid && seen.Ready && seen.Agent && validReport(seen) && seen.Report.highest() > next.Desired.Layout.Generation && next.SafeGeneration > 0
		if n.ready && !n.away && !n.fresh && (behind || lie) && !strings.Contains(ready.Message, n.name) {
			s.violate("Ready says nothing of %s, which serves %d and reports %+v: %q", n.name, n.mem.Generation, seen.Report, ready.Message)
		}
	}
}

// startsToMove: some pods tolerate every taint, so that a node that counts must
// know the new name before any template has it.
func (s *sim) startsToMove(next State, to layout.Name) {
	for _, n := range s.nodes {
		// A fresh one is new to caches too.
		if _, knows := n.mem.Route(to); !knows && !n.fresh && counted(next, n) {
			s.violate("the platform is re-pointed to %s, and %s, which counts, does not know it", to, n.name)
		}
	}
}

// proxyStops: no node that counts may be sent to it any more.
func (s *sim) proxyStops(next State) {
	for _, n := range s.nodes {
		excluded := slices.ContainsFunc(next.Excluded, func(e Exclusion) bool { return e.UID == n.uid })
		valid := n.report.UID == n.uid && n.report.BootID == fmt.Sprint(n.boot)
		if n.ready && valid && !excluded && !n.away && n.mem.Fallback != (layout.Fallback{}) && !s.stores.wanted {
			s.violate("the proxy stops, and %s is still sent there", n.name)
		}
	}
}

// promise is checked after every step of time.
func (s *sim) promise() {
	for _, n := range s.nodes {
		if n.ready && !n.away && !n.forgot && !n.lies {
			s.promiseOn(n)
		}
	}
	clients := s.p.hasFixedAddress(s.registry.Mode) || s.proxy && !s.proxyLoaded.IsZero() || s.stores.served // some are slow to leave
	if clients && s.entitledProxy&s.aliveBits() != 0 && !s.serviceServes() && !s.proxyForgot {
		s.violate("deckhouse-registry names the fixed address and no proxy serves it")
	}
}

func (s *sim) promiseOn(n *simNode) {
	guarded := n.tainted || n.fresh
	var refs [12]layout.Name
	used := append(append(refs[:0], n.pods...), n.bare...)
	if !guarded {
		used = append(used, s.deployment.template)
		if s.foreign != (layout.Name{}) {
			used = append(used, s.foreign)
		}
		for _, o := range s.nodes {
			if o.ready {
				used = append(used, o.pods...)
			}
		}
	}
	s.promiseOf(n, guarded, layout.NameOf(s.own), true)
	for i, name := range used {
		if !slices.Contains(used[:i], name) {
			s.promiseOf(n, guarded, name, false)
		}
	}
}

func (s *sim) promiseOf(n *simNode, guarded bool, name layout.Name, own bool) {
	entitled := s.entitled
	_, routed := n.mem.Route(name)
	switch {
	case guarded && s.safe > 0 && n.proved >= s.safe:
		// It had everything; a reboot does not take it away.
	case own && (s.safe == 0 || guarded && !routed):
		entitled = s.bit(s.own)
	case s.safe == 0:
		entitled = s.serving(name)
	case guarded && !routed && name != layout.Fixed():
		return // kubelet tries again until the agent runs
	case guarded:
		entitled = s.upstreamsOf(n.mem)
	}
	if entitled&s.aliveBits() != 0 && !s.pulls(n, name, own) {
		s.violate("%s cannot pull %s (own %v); its layout %d%s, alive %04b, entitled %04b",
			n.name, name, own, n.mem.Generation, describeLayout(n.mem), s.aliveBits(), entitled)
	}
}

// serving are the registries whose own name it is, of those that count.
func (s *sim) serving(name layout.Name) (bits uint) {
	for i, u := range s.ups {
		if layout.NameOf(u) == name {
			bits |= 1 << i
		}
	}
	return bits & s.entitled
}

func (s *sim) upstreamsOf(l layout.Layout) (bits uint) {
	for _, r := range l.Routes {
		for _, u := range r.Upstreams {
			bits |= s.bit(u)
		}
	}
	return bits
}

// pulls: through the agent, or from the real host with the pod's own secret.
func (s *sim) pulls(n *simNode, name layout.Name, own bool) bool {
	if r, ok := n.mem.Route(name); ok && s.t.noFallThrough && !n.mem.Stores.IsZero() {
		return s.storesPull(n.mem.Stores.Endpoints, name)
	} else if ok && slices.ContainsFunc(r.Upstreams, s.isAlive) {
		return true
	}
	for i, u := range s.ups {
		if !s.alive[i] || layout.NameOf(u) != name {
			continue
		}
		if own && slices.Contains(s.bootstrap, u) || !own && slices.Contains(s.secrets, Target{Mode: Unmanaged, Upstream: u}) {
			return true
		}
	}
	return false
}

// settlesDown lets the cluster work in peace and wants it to become Ready,
// with nothing left of the way there.
func (s *sim) settlesDown() {
	s.logf("QUIET from here")
	s.late = nil
	for _, n := range s.nodes {
		if !n.ready {
			n.ready, n.fresh, n.freshAt, n.store.late = true, true, s.tick, true
			s.boot(n)
		}
		s.comesBack(n)
		n.custom, n.hangs, n.refused = false, false, false
		n.speaksTrue()
		n.repair()
		n.store.dead = false
	}
	// Rounds in which a node may not be believed again do not count, for an hour; see
	// believe.go.
	calm, hour := 0, 60
	for left := 80; left > 0; left-- {
		s.tick++
		if len(s.stored.Believed) > 0 && hour > 0 {
			left, hour = left+1, hour-1
		}
		s.revive()
		if s.round(); s.violation != "" {
			return
		}
		if s.unsettled() != "" {
			calm = 0
		} else if calm++; calm > 1 {
			return
		}
	}
	s.violate("does not settle: %s", s.unsettled())
}

// revive repairs what the switch cannot do without.
func (s *sim) revive() {
	s.bringsTheImage()
	s.deletesWhatCannotBe()
	for i, u := range s.ups {
		if s.runsInside(u) {
			continue
		}
		if u == s.stored.Target.Upstream || u == s.spec.Upstream {
			s.alive[i] = true
			s.pages &^= s.bit(u)
		}
	}
}

// passAndWrite is a whole pass.
func (s *sim) passAndWrite() {
	s.pass()
	s.promise()
	for s.write() {
		s.promise()
	}
}

// round lets everybody work once.
func (s *sim) round() {
	for range 2 {
		s.passAndWrite()
	}
	for _, n := range s.nodes {
		s.agentReads(n, s.layout)
		s.agentReports(n)
		s.podsReplaced(n)
	}
	s.registryStarts()
	s.proxyLoads()
	s.storesLoad()
	s.checks()
	s.caches()
	s.now = s.now.Add(61e9)
	s.promise()
}

// unsettled says what is not yet as it should end, if anything.
func (s *sim) unsettled() string {
	st := s.stored
	target := st.Target
	switch {
	case !st.Ready():
		return fmt.Sprint("not Ready: ", st.Conditions)
	case st.Active != target:
		return "Ready, and the target is not active"
	case s.spec.Mode != "" && s.spec.Mode != Unmanaged && target != Target{Mode: s.spec.Mode, Upstream: s.spec.Upstream}:
		return "the target is not what the user wants"
	case s.spec.Mode == Unmanaged && target.Mode != Unmanaged:
		return "the mode is not what the user wants"
	case s.storesLeft() != "":
		return s.storesLeft()
	case st.Desired.Layout.IsZero() && st.Desired.Legacy:
		for _, n := range s.nodes {
			if !n.mem.IsZero() {
				return n.name + " is not back in the legacy format"
			}
		}
		return ""
	case st.Desired.Layout.IsZero():
		return ""
	case s.deployment.template != target.Name():
		return "the platform is elsewhere"
	case s.registry != target:
		return "deckhouse-registry is something else"
	case s.own != target.Upstream && !s.t.noOwn:
		return "own workloads are elsewhere"
	case s.proxy != s.p.modes[target.Mode].proxy:
		return fmt.Sprint("proxy ", s.proxy)
	case !s.found || s.layout.Generation != st.Desired.Layout.Generation:
		return "the layout is not published"
	case len(s.layout.Upstreams()) != 1 || s.layout.Upstreams()[0] != target.Upstream:
		return "an old registry is left"
	case len(s.secrets) != 1:
		return "an old pull secret is left"
	case !st.Desired.Proxy && !st.Desired.ProxyLayout.IsZero():
		return "a layout is kept for a proxy that is gone"
	case target.Mode == Unmanaged && s.layout.Fallback != (layout.Fallback{}):
		return "a way to the proxy is left"
	}
	used := s.look()
	for _, name := range s.layout.Names() {
		inUse := slices.ContainsFunc(used, func(r Reference) bool { return r.Name == name })
		if !inUse && !slices.Contains(s.p.ownNames(target), name) {
			return "name " + name.String() + " is left, and nothing uses it"
		}
	}
	for _, n := range s.nodes {
		if n.tainted || n.mem.Generation != s.layout.Generation {
			return n.name + " is not there"
		}
		if n.approved != "" {
			return n.name + " keeps an approval"
		}
	}
	return ""
}
