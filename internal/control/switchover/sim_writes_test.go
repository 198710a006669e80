package switchover

import (
	"fmt"
	"slices"

	"github.com/d8-registry/registry/internal/layout"
)

// Each write reports whether it changed anything, which takes a step of time.

func (s *sim) store(next State) bool {
	if s.cut = false; !s.fits(&next) {
		s.work = nil
		return true
	}
	if next.Generation != s.stored.Generation || len(next.Passed) != len(s.stored.Passed) {
		s.older = append(s.older, s.stored)
		s.logf("controller: %s", describe(next))
	}
	s.watch(s.stored, next)
	s.stored = next
	if s.t.agentsGoBack {
		s.hashes[next.Desired.Layout.Generation] = contentHash(next.Desired.Layout)
	}
	return true
}

func describe(s State) string {
	text := fmt.Sprintf("generation %d, %s(%s) -> %s(%s), %d passed, safe %d, layout %d", s.Generation,
		s.Active.Mode, s.Active.Upstream.Host, s.Target.Mode, s.Target.Upstream.Host, len(s.Passed), s.SafeGeneration, s.Desired.Layout.Generation)
	return text + describeLayout(s.Desired.Layout)
}

func describeLayout(l layout.Layout) string {
	var text string
	for _, r := range l.Routes {
		text += " " + r.Name.Host + ":"
		for _, u := range r.Upstreams {
			text += u.Host[:1] + u.Credentials.Password
		}
	}
	return "{" + text + " }"
}

func contentHash(l layout.Layout) string {
	l.Generation = 0
	return fmt.Sprint(l.Mode, l.ActiveMode, describeLayout(l))
}

func (s *sim) writeTaints(next State, w Observed, seen int) bool {
	tainted := s.p.Tainted(next, w)
	changed := false
	for _, n := range s.nodes {
		isSeen := slices.ContainsFunc(w.Nodes, func(o Node) bool {
			return o.UID == n.uid && o.BootID == fmt.Sprint(n.boot) && o.Tainted == n.tainted && o.Ready == n.ready && o.Agent != n.away
		})
		if n.refused || !isSeen {
			continue // the latter is a conflict
		}
		if n.freshAt < seen {
			n.fresh = false
		}
		order := int64(0)
		if next.Desired.Legacy {
			order = next.Generation
		}
		if n.legacyOrder != order {
			n.legacyOrder, changed = order, true
		}
		value, want := tainted[n.name]
		if want = want && !s.t.noTaint; want != n.tainted {
			s.logf("controller: taint of %s: %v %s", n.name, want, value)
			n.tainted, n.joining, changed = want, value != "", true
		}
	}
	return changed
}

func (s *sim) writeSecrets(next State) bool {
	want := next.Desired
	bootstrap := slices.Clone(want.Bootstrap)
	if s.t.noOwn {
		bootstrap = nil
		for _, t := range want.PullSecrets {
			bootstrap = append(bootstrap, t.Upstream)
		}
	}
	changed := len(bootstrap) > 0 && !slices.Equal(bootstrap, s.bootstrap)
	if changed {
		s.bootstrap = bootstrap
	}
	if u := next.Active.Upstream; s.entitled == 0 && u == s.registry.Upstream && slices.Contains(s.bootstrap, u) {
		s.entitled = s.bit(next.Active.Upstream)
		s.entitledProxy = s.entitled
	}
	secrets := want.PullSecrets
	if s.t.oneSecret && len(secrets) > 0 {
		secrets = secrets[:1]
	}
	if len(secrets) == 0 || slices.Equal(secrets, s.secrets) {
		return changed
	}
	s.logf("controller: pull secrets hold %d targets", len(secrets))
	s.secrets = secrets
	return true
}

func (s *sim) writeLayout(next State, seen Published, version int) bool {
	want := next.Desired.Layout
	if want.IsZero() || s.found && s.layout.Generation == want.Generation && s.layout.SameContent(want) {
		return false
	}
	if err := next.MayPublish(Agents, seen); err != nil && !s.t.noFence {
		s.logf("controller: %v", err)
		s.work = nil
		return true
	}
	if version != s.version && !s.t.noFence {
		s.logf("controller: conflict on the layout")
		s.work = nil
		return true
	}
	s.publish(want, "controller")
	return true
}

func (s *sim) publish(want layout.Layout, who string) {
	s.logf("%s: publishes layout %d%s", who, want.Generation, describeLayout(want))
	if s.found {
		s.layoutBefore = s.layout
	}
	s.layout, s.found = want, true
	s.version++
	if unchecked := s.uncheckedIn(want); unchecked != "" {
		s.violate("nodes hear of %s before it was checked", unchecked)
	}
	for _, n := range s.nodes {
		first := s.safe == 0 && !slices.ContainsFunc(s.nodes, func(o *simNode) bool { return !o.mem.IsZero() })
		if first && n.custom && n.ready && !n.away && !slices.Contains(s.unseen, n.uid) {
			s.violate("a layout is published while %s has a configuration of its own", n.name)
		}
	}
}

func (s *sim) uncheckedIn(l layout.Layout) string {
	for _, u := range l.Upstreams() {
		if s.bit(u)&s.checked == 0 {
			return u.String()
		}
	}
	return ""
}

func (s *sim) writeProxy(next State, seen Published) bool {
	want, l := next.Desired, next.Desired.LayoutOf(InClusterProxy)
	changed := false
	if want.Proxy && (s.proxySecret.Generation != l.Generation || !s.proxySecret.SameContent(l)) {
		if err := next.MayPublish(InClusterProxy, seen); err != nil && !s.t.noFence {
			s.logf("controller: proxy: %v", err)
			s.work = nil
			return true
		}
		s.proxySecret, changed = l, true
	}
	if s.proxy != want.Proxy && (!want.Proxy || !want.Own.IsZero()) {
		s.logf("controller: proxy %v", want.Proxy)
		s.proxy, changed = want.Proxy, true
		s.proxyLoaded = layout.Layout{}
	}
	if !want.Proxy {
		s.proxySecret = layout.Layout{}
	}
	return changed
}

func (s *sim) writeRegistry(next State) bool {
	want := next.Desired.Registry
	if want.IsZero() || s.registry == want {
		return false
	}
	s.logf("controller: deckhouse-registry says %s(%s)", want.Mode, want.Upstream.Host)
	s.registry = want
	return true
}

func (s *sim) writeDeployment(next State) bool {
	want := next.Desired.Workloads
	bases := next.Bases
	if s.t.oneBase {
		bases = []layout.Name{next.Active.Name(), next.Target.Name()}
	}
	if want == (layout.Name{}) || !next.Desired.Repoint || s.deployment.template == want || !slices.Contains(bases, s.deployment.template) {
		return false
	}
	s.logf("controller: re-points the Deployment from %s to %s", s.deployment.template.Host, want.Host)
	s.deployment = simDeployment{template: want, previous: s.deployment.template}
	return true
}

func (s *sim) writeOwn(next State) bool {
	want := next.Desired.Own
	if s.t.noOwn || want.IsZero() || s.own == want {
		return false
	}
	s.logf("controller: own workloads from %s", want.Host)
	s.own = want
	return true
}
