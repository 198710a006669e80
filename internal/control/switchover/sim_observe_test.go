package switchover

import (
	"fmt"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// What the controller sees of a simulated cluster.

// look is every image reference there is under a known base.
func (s *sim) look() []Reference {
	refs := make([]Reference, 0, 12)
	add := func(n layout.Name, user string, movable, own bool) {
		if n != (layout.Name{}) {
			refs = append(refs, Reference{Name: n, Image: "alpha@sha256:1", User: user, Movable: movable, OwnWorkload: own})
		}
	}
	add(s.deployment.template, "Deployment a/alpha", true, false)
	add(s.deployment.previous, "ReplicaSet a/alpha-1", false, false)
	add(s.foreign, "Deployment b/foreign", false, false)
	if s.focus == onInside {
		add(layout.NameOf(s.ups[0]), "Deployment b/registry", false, false)
	}
	add(layout.NameOf(s.own), "DaemonSet d8-system/registry-agent", false, true)
	if s.tenant != (layout.Name{}) {
		refs = append(refs, Reference{Name: s.tenant, Image: tenantsImage, User: "Pod mine/x", Namespace: "mine", Foreign: true})
	}
	for _, n := range s.nodes {
		for _, pod := range n.pods {
			add(pod, "Pod a/alpha-1", false, false)
		}
		for _, pod := range n.bare {
			add(pod, "Pod a/bare", false, false)
		}
	}
	return refs
}

// caches catch up.
func (s *sim) caches() { s.census, s.cached = s.look(), s.lookAtNodes() }

// under keeps the references that the controller can recognise.
func (s *sim) under(refs []Reference, bases []layout.Name) []Reference {
	if s.t.oneBase {
		bases = []layout.Name{s.stored.Active.Name(), s.stored.Target.Name()}
	}
	return slices.DeleteFunc(slices.Clone(refs), func(r Reference) bool { return !slices.Contains(bases, r.Name) })
}

// observe is what the controller sees. What is not asked of the API server
// directly may be older than what is there.
func (s *sim) observe() (w Observed, version int) {
	w = Observed{Now: s.now, Settings: DefaultSettings(), Spec: s.spec}
	w.Settings.RestartsAtOnce = simRestarts
	if s.registry.Mode == Unmanaged {
		w.Installation = s.registry.Upstream
	} else {
		w.InstallationProblem = "the Secret names the fixed address"
	}
	w.Published, version = Published{Layout: s.layout, Found: s.found}, s.version
	w.ProxyPublished = Published{Layout: s.proxySecret, Found: !s.proxySecret.IsZero()}
	intact := s.stored.Desired.Layout.Generation >= s.layout.Generation
	if s.found && intact && !s.layoutBefore.IsZero() && s.rng.IntN(8) == 0 {
		w.Published.Layout, version = s.layoutBefore, s.version-1
	}
	if s.rng.IntN(4) > 0 {
		s.cached = s.lookAtNodes()
	}
	w.Nodes = s.cached
	s.observeWhoCame(w.Nodes)
	w.Census.References = s.under(s.census, s.stored.Bases)
	s.observeProgress(&w)
	s.observeStores(&w)
	s.observeChecks(&w)
	return w, version
}

// lookAtNodes are Nodes and RegistryNodes as they are now.
func (s *sim) lookAtNodes() (all []Node) {
	for _, n := range s.nodes {
		seen := Node{
			Name: n.name, UID: n.uid, BootID: fmt.Sprint(n.boot), ControlPlane: n.controlPlane, Schedulable: true,
			Ready: n.ready, Agent: !n.away, Tainted: n.tainted, Joining: n.tainted && n.joining, Report: n.report, ApprovedRestart: n.approved,
		}
		if !n.ready {
			since := n.downSince
			if s.started.After(since) {
				since = s.started // a new controller has seen less
			}
			seen.NotReadyFor = s.now.Sub(since)
		}
		all = append(all, seen)
	}
	return all
}

// observeWhoCame is what nodes.Keeper makes of it.
func (s *sim) observeWhoCame(nodes []Node) {
	came := map[string]time.Time{}
	for i := range nodes {
		n := &nodes[i]
		since, known := s.came[n.UID]
		if !known && (s.came != nil || s.t.allNew) && s.stored.SafeGeneration > 0 {
			since = s.now
		}
		came[n.UID] = since
		n.New = !since.IsZero() && s.now.Sub(since) < time.Minute
	}
	s.came = came
}

func (s *sim) observeProgress(w *Observed) {
	want := s.stored.Desired
	if s.proxy {
		w.Proxy = Proxy{
			Exists: true, Wanted: 1, Ready: 1, Generation: s.proxyLoaded.Generation, LastUse: s.lastUse,
			Fallback: layout.Fallback{Host: "10.96.0.17:5001", CA: "ca"},
		}
		if s.proxyServes() {
			w.Proxy.Pulled = s.proxyLoaded.Generation
		}
	}
	moved := s.own == want.Own
	if !want.Registry.IsZero() {
		moved = moved && s.registry == want.Registry && slices.Equal(s.secrets, want.PullSecrets)
	}
	if s.t.oneSecret || s.t.noOwn {
		moved = s.registry == want.Registry
	}
	if want.Workloads != (layout.Name{}) && slices.Contains(s.knownBases(), s.deployment.template) && s.deployment.template != want.Workloads {
		moved = false
	}
	for _, n := range s.nodes {
		for _, pod := range n.pods {
			if want.Workloads != (layout.Name{}) && n.ready && pod != s.deployment.template {
				moved = false
			}
		}
	}
	w.Platform = Platform{Target: want.Registry, Moved: moved}
}

func (s *sim) knownBases() []layout.Name {
	if s.t.oneBase {
		return []layout.Name{s.stored.Active.Name(), s.stored.Target.Name()}
	}
	return s.stored.Bases
}

// observeChecks: what could be taken away is looked at as it is now, and again when
// the check of what was found has ended.
func (s *sim) observeChecks(w *Observed) {
	if s.rng.IntN(3) > 0 {
		s.checks()
	}
	w.Check = s.report
	if !s.p.NeedsLive(s.stored, *w) {
		return
	}
	w.Census.Live = true
	if !s.t.staleCensus {
		w.Census.References = s.under(s.look(), s.stored.Bases)
	}
	if !s.t.staleNodes {
		s.cached = s.lookAtNodes()
		w.Nodes = s.cached
		s.observeWhoCame(w.Nodes)
	}
	if target := s.stored.Target.Upstream; !w.Check.At.IsZero() && !s.answers(target) && !s.t.noLastWord {
		w.Check.At, w.Check.Problem = time.Time{}, "connection refused"
	}
	if s.t.oneLook && s.report.At.IsZero() {
		s.looked = w.Census.References
	} else if s.t.oneLook {
		w.Census.References = s.looked
	}
}

// wants is what the pass asks the checker for.
func (s *sim) wants(next State, w Observed) {
	if s.p.KeepsCheck(next, w) {
		return
	}
	request := s.p.CheckRequest(next, w)
	again := !s.report.At.IsZero() && s.now.Sub(s.report.At) > freshCheck/2
	if request.Fingerprint() != s.wanted.Fingerprint() || again {
		s.wanted = request
		s.report = CheckReport{Fingerprint: request.Fingerprint(), Total: len(request.Images)}
	}
}

// checks lets a round of the check that is wanted end.
func (s *sim) checks() {
	if !s.wanted.IsZero() && s.report.At.IsZero() {
		s.report = s.check(s.wanted)
	}
}

// answers: a web page is an answer, too.
func (s *sim) answers(u upstream.Upstream) bool { return s.isAlive(u) || s.pages&s.bit(u) != 0 }

func (s *sim) check(request CheckRequest) CheckReport {
	report := CheckReport{Fingerprint: request.Fingerprint(), Total: len(request.Images)}
	if !s.answers(request.Upstream) {
		report.Problem = "connection refused"
		return report
	}
	s.checked |= s.bit(request.Upstream)
	if slices.Contains(request.Images, tenantsImage) {
		report.FailureCount, report.At = 1, s.now
		return report
	}
	report.Done, report.At = report.Total, s.now
	return report
}

func (s *sim) proxyServes() bool {
	r, ok := s.proxyLoaded.Route(layout.Fixed())
	return ok && slices.ContainsFunc(r.Upstreams, s.isAlive)
}
