package switchover

import (
	"slices"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// simBackup is a backup of etcd: all objects of the API server as they were at one
// time, with their resourceVersions. What is on nodes is not in it.
type simBackup struct {
	sim
	nodes []simNode
}

// backsUp keeps a few of the last backups.
func (s *sim) backsUp() {
	b := simBackup{sim: *s}
	for _, n := range s.nodes {
		kept := *n
		kept.pods, kept.bare = slices.Clone(n.pods), slices.Clone(n.bare)
		b.nodes = append(b.nodes, kept)
	}
	b.backups = nil
	s.backups = append(s.backups, b)
	s.backups = s.backups[max(0, len(s.backups)-4):]
}

// restored puts back a backup, perhaps not for the first time. Nodes keep what they
// serve, and their agents go on. On one that serves something else than at the time of the
// backup nothing is promised until it has learnt a layout again: an image may be named by a
// name that was taken out since. To all others is promised what was then.
func (s *sim) restored() {
	if len(s.backups) > 0 {
		s.restore(s.backups[s.rng.IntN(len(s.backups))])
	}
}

// restoredTwice: a backup is restored, the cluster goes on, and a backup of soon after
// the first restore is restored.
func (s *sim) restoredTwice() {
	for range 2 {
		for range 3 {
			s.round()
		}
		s.backsUp()
		s.userEdits()
		if s.settlesDown(); s.violation != "" {
			return
		}
		s.restore(s.backups[len(s.backups)-1])
	}
	s.userEdits()
}

func (s *sim) restore(b simBackup) {
	if len(s.work) > 0 {
		return
	}
	if !slices.EqualFunc(s.nodes, b.nodes, func(n *simNode, o simNode) bool { return n.uid == o.uid }) {
		return // a node that is not there any more, or not yet
	}
	s.logf("BACKUP of tick %d is restored: %s", b.tick, describe(b.stored))
	s.stored, s.spec, s.specBefore = b.stored, b.spec, b.specBefore
	s.layout, s.layoutBefore, s.found, s.version, s.late = b.layout, layout.Layout{}, b.found, b.version, nil
	s.registry, s.secrets, s.bootstrap, s.own = b.registry, b.secrets, b.bootstrap, b.own
	s.deployment, s.foreign, s.tenant = b.deployment, b.foreign, b.tenant
	s.proxy, s.proxySecret, s.proxyLoaded = b.proxy, b.proxySecret, layout.Layout{}
	s.stores, s.stores.unsure = b.stores, true
	for i, n := range s.nodes {
		o := b.nodes[i]
		n.report, n.inFlight, n.approved, n.legacyOrder = o.report, Report{}, o.approved, o.legacyOrder
		n.tainted, n.joining, n.away, n.came = o.tainted, o.joining, o.away, o.came
		n.pods, n.bare = slices.Clone(o.pods), slices.Clone(o.bare)
		n.fresh, n.freshAt, n.stale = true, s.tick, true
		n.store.asked, n.store.loaded = o.store.asked, layout.Layout{}
		if o.lies {
			n.report = Report{}
		}
		n.forgot = !isAsServed(n.mem, o.mem) && !isAsServed(n.mem, s.layout)
		if n.restart.Phase == RestartRunning {
			s.restartEnds(n) // it takes less time
		}
	}
	s.newProcess()
	s.entitled, s.entitledProxy, s.safe, s.proxyForgot = b.entitled, b.entitledProxy, b.safe, true
}

func isAsServed(a, b layout.Layout) bool { return a.Generation == b.Generation && a.SameContent(b) }

// stateOfBeforeTheProof: a node is away while the platform is re-pointed. When it is
// back, somebody restores the state of before that. It has the layout that is published,
// and knows of no proof. Then the old registry dies.
func (s *sim) stateOfBeforeTheProof() {
	n := s.anyNode()
	if len(s.work) > 0 || n.controlPlane || n.away || !n.ready || s.safe == 0 {
		return
	}
	n.ready, n.downSince = false, s.now
	s.logf("%s: NotReady", n.name)
	s.now = s.now.Add(2 * time.Minute)
	s.userEdits()
	for range 12 {
		if s.round(); s.violation != "" {
			return
		}
		if s.stored.passed(names.ConditionTransition) && s.deployment.template == s.stored.Desired.Workloads {
			break
		}
	}
	n.ready, n.fresh, n.freshAt = true, true, s.tick
	s.logf("%s: Ready again, serves %d", n.name, n.mem.Generation)
	for _, old := range slices.Backward(s.older) {
		if old.Desired.Layout.Generation == s.stored.Desired.Layout.Generation && old.SafeGeneration < s.stored.SafeGeneration {
			s.stored = old
			s.newProcess()
			s.logf("STATE is restored from an older copy: %s", describe(old))
			break
		}
	}
	if i := s.index(s.stored.Active.Upstream); i >= 0 && s.isAlive(s.stored.Target.Upstream) && s.stored.Active.Upstream != s.stored.Target.Upstream {
		s.alive[i] = false
	}
	for range 2 {
		s.tick++
		s.passAndWrite()
	}
}

// userGoesBack: the way to Unmanaged, perhaps while a node is away, and then to the
// legacy format.
func (s *sim) userGoesBack() {
	if n := s.anyNode(); s.rng.IntN(2) == 0 && n.ready && !n.controlPlane {
		n.ready, n.downSince = false, s.now
		s.registryStops(n, false)
		s.now = s.now.Add(2 * time.Minute)
		s.logf("%s: NotReady", n.name)
	}
	s.setSpec(Spec{Mode: Unmanaged})
	for range 40 {
		if s.round(); s.violation != "" || s.stored.Ready() && s.stored.Active.Mode == Unmanaged {
			break
		}
	}
	s.userDeletesTheLayout()
}
