package switchover

import (
	"fmt"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/layout"
)

// event is something that happens to the cluster; it does nothing where it
// cannot happen.
type event struct {
	weight int
	do     func(*sim)
}

// workEvents is what the cluster does by itself.
func workEvents() []event {
	return []event{
		{30, (*sim).control},
		{10, func(s *sim) { s.agentReads(s.anyNode(), s.layout) }},
		{10, func(s *sim) { s.agentReports(s.anyNode()) }},
		{8, func(s *sim) { s.podsReplaced(s.anyNode()) }},
		{20, (*sim).nodesWork},
		{8, (*sim).caches},
		{8, (*sim).checks},
		{8, (*sim).proxyLoads},
		{8, (*sim).registryStarts},
		{2, func(s *sim) { s.now = s.now.Add(11 * time.Minute) }},
		{6, (*sim).round},
	}
}

// nodesWork lets every node do one thing.
func (s *sim) nodesWork() {
	what := s.rng.IntN(3)
	for _, n := range s.nodes {
		switch what {
		case 0:
			s.agentReads(n, s.layout)
		case 1:
			s.agentReports(n)
		case 2:
			s.podsReplaced(n)
		}
	}
}

// faultEvents is what users and the world do to it.
func faultEvents() []event {
	return []event{
		{6, (*sim).userEdits},
		{2, (*sim).userReverts},
		{2, (*sim).userRemovesTheSpec},
		{4, (*sim).userEditsTheSecret},
		{3, (*sim).userUndoesTheRollout},
		{1, (*sim).userDeletesTheLayout},
		{3, (*sim).oldManifestApplied},
		{2, (*sim).userCleansTheNode},
		{2, (*sim).userRepairsTheNode},
		{3, (*sim).registryDies},
		{2, (*sim).registryReturns},
		{4, (*sim).crash},
		{3, (*sim).failover},
		{2, (*sim).oldLeaderWakes},
		{2, func(s *sim) { s.agentReads(s.anyNode(), s.layoutBefore) }},
		{2, (*sim).nodeDown},
		{3, (*sim).nodeUp},
		{2, (*sim).nodeReboots},
		{1, (*sim).nodeReimaged},
		{2, (*sim).nodeJoins},
		{3, (*sim).agentHangsOrWakes},
		{2, (*sim).registryNodeDeleted},
		{1, (*sim).registryNodesDeleted},
		{2, (*sim).nodeOptsOutOrIn},
		{2, (*sim).nodeRefusesWrites},
		{2, (*sim).barePod},
		{3, (*sim).tenantComesOrGoes},
		{1, (*sim).stateLost},
		{1, (*sim).stateRestored},
		{4, (*sim).backsUp},
		{4, (*sim).restored},
	}
}

func (s *sim) anyNode() *simNode { return s.nodes[s.rng.IntN(len(s.nodes))] }

func (s *sim) agentReads(n *simNode, l layout.Layout) {
	if !n.ready || n.custom || n.hangs || n.away {
		return
	}
	ordered := n.legacyOrder > 0 && (n.mem.IsZero() || n.mem.WithoutFixedAddress() || n.mem.Generation < n.legacyOrder && !s.t.onlyUnmanaged)
	switch {
	case ordered, !s.found && s.t.absentIsOrder:
		if s.restarted(n, false) {
			s.goLegacy(n)
		}
		return
	case !s.found || l.IsZero():
		return // absent changes nothing
	case !s.restarted(n, true):
		return
	case l.Generation <= n.mem.Generation && !s.t.agentsGoBack:
		return
	case l.Generation == n.mem.Generation && l.SameContent(n.mem):
		return
	}
	n.mem, n.legacy, n.forgot = l, false, false
	if !s.t.lateDisk {
		n.disk = l
	}
	s.logf("%s: serves layout %d", n.name, l.Generation)
}

func (s *sim) goLegacy(n *simNode) {
	if !n.mem.IsZero() {
		s.logf("%s: returns to the legacy format", n.name)
	}
	n.mem, n.disk, n.legacy, n.proved, n.reached, n.forgot = layout.Layout{}, layout.Layout{}, true, 0, 0, false
}

// agentReports: first the report that is on its way arrives, then the next one
// starts, if the target alone serves an image to the node.
func (s *sim) agentReports(n *simNode) {
	if n.inFlight.UID != "" {
		if n.report.Generation != n.inFlight.Generation || n.report.BootID != n.inFlight.BootID {
			s.logf("%s: reports %d", n.name, n.inFlight.Generation)
		}
		n.arrives(n.inFlight)
		return
	}
	if !n.ready || n.hangs || n.away {
		return
	}
	r := Report{
		UID: n.uid, BootID: fmt.Sprint(n.boot), Generation: n.report.Generation, Version: n.report.Version,
		Preflight: PreflightReady, Legacy: n.legacy, Restart: n.restart,
	}
	other := s.layout.Generation < n.mem.Generation || s.layout.Generation == n.mem.Generation && !s.layout.SameContent(n.mem)
	if s.found && other && !s.t.secretlyAhead {
		r.Ahead = n.mem.Generation
	}
	if n.report.UID != n.uid || n.report.BootID != r.BootID || s.t.agentsGoBack {
		r.Generation, r.Version = 0, ""
	}
	if n.custom {
		r.Preflight = PreflightCustom
	}
	answers := s.isAlive(n.mem.Target) || s.t.onlyReached && s.pages&s.bit(n.mem.Target) != 0 || s.storeStandsIn(n.mem)
	switch {
	case n.mem.IsZero():
	case answers || n.reached == n.mem.Generation:
		n.reached = n.mem.Generation
		r.Generation, r.Version = n.mem.Generation, "some version"
		if s.t.agentsGoBack {
			r.Version = contentHash(n.mem)
		}
	default:
		r.Served = n.mem.Generation
	}
	if n.lies {
		s.lie(&r, n)
	}
	if s.rng.IntN(3) == 0 {
		n.inFlight = r
		return
	}
	if n.report != r {
		s.logf("%s: reports %d", n.name, r.Generation)
	}
	n.arrives(r)
}

func (n *simNode) arrives(r Report) {
	n.report, n.inFlight, n.stale = r, Report{}, false
	n.came = n.came && (r.UID != n.uid || r.Generation == 0)
	if r.UID == n.uid && r.BootID == fmt.Sprint(n.boot) && !n.legacy {
		n.proved = max(n.proved, r.Generation)
	}
}

// podsReplaced is a rollout coming to a node. From a tainted node pods go
// elsewhere.
func (s *sim) podsReplaced(n *simNode) {
	if !n.ready || n.fresh || n.away {
		return
	}
	if s.rng.IntN(4) == 0 {
		n.disk = n.mem // at the latest
	}
	if n.tainted {
		if slices.ContainsFunc(n.pods, func(p layout.Name) bool { return p != s.deployment.template }) {
			n.pods = nil
		}
		return
	}
	if len(n.pods) == 1 && n.pods[0] == s.deployment.template {
		return
	}
	n.pods = []layout.Name{s.deployment.template}
	s.logf("%s: pod replaced, now uses %s", n.name, s.deployment.template.Host)
}

func (s *sim) proxyLoads() {
	lags := s.stores.lags == InClusterProxy && !s.proxyLoaded.IsZero()
	if s.proxy && !lags && s.proxySecret.Generation > s.proxyLoaded.Generation {
		s.proxyLoaded, s.proxyForgot = s.proxySecret, false
		s.logf("proxy: serves layout %d", s.proxyLoaded.Generation)
	}
}

func (s *sim) userEdits() {
	specs := []Spec{{Mode: Unmanaged}}
	for _, u := range s.ups {
		specs = append(specs, Spec{Mode: Direct, Upstream: u})
		if s.focus == onStores {
			specs = append(specs, Spec{Mode: ModeProxy, Upstream: u})
		}
	}
	s.setSpec(specs[s.rng.IntN(len(specs))])
}

func (s *sim) setSpec(spec Spec) {
	s.specBefore, s.spec = s.spec, spec
	s.logf("USER: %s(%s%s) %s", spec.Mode, spec.Upstream.Host, spec.Upstream.Credentials.Password, spec.Problem)
}

func (s *sim) userReverts() { s.setSpec(s.specBefore) }

func (s *sim) userRemovesTheSpec() {
	s.setSpec(Spec{Problem: "ModuleConfig deckhouse is missing"})
}

// userEditsTheSecret names another registry where Secret deckhouse-registry is
// the user's. Before the first switch the pull secrets and workloads are the
// user's as well.
func (s *sim) userEditsTheSecret() {
	st := s.stored
	if !st.Ready() || st.Active.Mode != Unmanaged || !st.Desired.Registry.IsZero() || len(s.work) > 0 {
		return
	}
	u := s.ups[s.rng.IntN(len(s.ups))]
	s.registry = Target{Mode: Unmanaged, Upstream: u}
	s.logf("USER: deckhouse-registry says %s%s", u.Host, u.Credentials.Password)
	if st.Desired.Layout.IsZero() {
		s.secrets = including([]Target{s.registry}, s.secrets...)
		s.checked |= s.bit(u)
		s.entitled = 0 // nobody promised anything about this move
	}
}

func (s *sim) userUndoesTheRollout() {
	if s.deployment.previous == (layout.Name{}) {
		return
	}
	s.deployment.template, s.deployment.previous = s.deployment.previous, s.deployment.template
	s.logf("USER: rollout undo, back to %s", s.deployment.template.Host)
}

func (s *sim) userDeletesTheLayout() {
	if s.found && s.stored.Desired.Layout.Generation >= s.layout.Generation { // see stateLost
		s.found = false
		s.version++
		s.logf("USER: deletes the layout")
	}
}

// oldManifestApplied is GitOps that comes back with a name that nodes know.
func (s *sim) oldManifestApplied() {
	for _, name := range s.stored.Desired.Layout.Names() {
		known := s.found
		for _, n := range s.nodes {
			_, routed := n.mem.Route(name)
			known = known && routed
		}
		if _, published := s.layout.Route(name); known && published && s.rng.IntN(2) == 0 {
			s.foreign = name
			s.logf("USER: a foreign workload names %s", name.Host)
			return
		}
	}
}

func (s *sim) userCleansTheNode() { s.anyNode().custom = false }

func (s *sim) registryDies() {
	i := s.rng.IntN(len(s.ups))
	if s.rng.IntN(2) == 0 {
		i = max(0, s.index(s.stored.Target.Upstream))
	}
	if s.aliveBits()&^(1<<i) != 0 && s.alive[i] {
		s.alive[i] = false // one in this cluster starts again
		s.logf("REGISTRY %s%s dies", s.ups[i].Host, s.ups[i].Credentials.Password)
	}
}

func (s *sim) registryReturns() {
	i := s.rng.IntN(len(s.ups))
	if !s.alive[i] && !s.runsInside(s.ups[i]) {
		s.alive[i] = true
		s.pages &^= s.bit(s.ups[i])
		s.logf("REGISTRY %s%s returns", s.ups[i].Host, s.ups[i].Credentials.Password)
	}
}

func (s *sim) crash() {
	s.logf("CRASH of the controller, %d writes undone", len(s.work))
	s.newProcess()
}

func (s *sim) newProcess() {
	s.work, s.started, s.came = nil, s.now, nil
	s.wanted, s.report = CheckRequest{}, CheckReport{}
	s.caches()
}

// failover leaves the old leader in front of its write of the layout.
func (s *sim) failover() {
	if len(s.work) < 5 {
		return
	}
	want, version := s.stored.Desired.Layout, s.version
	if want.IsZero() {
		return
	}
	s.logf("FAILOVER: the old leader pauses before publishing %d", want.Generation)
	s.late = func() {
		if version == s.version || s.t.noFence {
			s.publish(want, "OLD LEADER")
		}
	}
	s.newProcess()
}

// oldLeaderIsLate: it wakes when its successor has ended another switch.
func (s *sim) oldLeaderIsLate() {
	s.pass()
	s.failover()
	late := s.late
	s.userEdits()
	if s.settlesDown(); s.violation == "" {
		s.late = late
		s.oldLeaderWakes()
	}
}

func (s *sim) oldLeaderWakes() {
	if s.late != nil {
		s.late()
		s.late = nil
		if s.rng.IntN(2) == 0 {
			s.stateLost() // the worst moment: what lies there now is all that is left
		}
	}
}

func (s *sim) barePod() {
	n := s.anyNode()
	if n.ready && !n.tainted && !n.fresh && !n.away {
		n.bare = []layout.Name{s.deployment.template}
		s.logf("%s: a bare pod uses %s", n.name, s.deployment.template.Host)
	}
}

// stateLost and stateRestored leave the layout alone: losing both at once
// leaves only ModuleConfig, which cannot know every name.
func (s *sim) stateLost() {
	st := s.stored
	nothingPublished := st.Desired.Layout.IsZero()
	if s.found == nothingPublished || nothingPublished && (len(s.work) > 0 || len(st.Bases) > 1 || st.Target != st.Active || s.own != s.registry.Upstream) {
		return // before the first switch only the state knows which registries the user has left, or is leaving
	}
	defer s.losesPlaces()()
	s.stored, s.stores.unsure = State{}, true
	s.newProcess()
	s.logf("STATE is lost")
}

func (s *sim) stateRestored() {
	if len(s.older) == 0 || !s.found {
		return
	}
	defer s.losesPlaces()()
	s.stored, s.copied, s.stores.unsure = s.older[s.rng.IntN(len(s.older))], true, true
	s.newProcess()
	s.logf("STATE is restored from an older copy: %s", describe(s.stored))
}
