package switchover

import (
	"fmt"
	"slices"
	"time"
)

// simRestarts is how many nodes may restart at once: fewer than there are.
const simRestarts = 2

// restarted reports whether a node's containerd looks into our directory, or
// no longer does. A v1 one takes a restart for that, which takes an approval.
func (s *sim) restarted(n *simNode, wanted bool) bool {
	if n.restart.Phase == RestartRunning {
		s.restartEnds(n)
		return false
	}
	if !n.v1 || n.directory == wanted {
		n.restart, n.noPlace = Restart{}, false
		return true
	}
	id := fmt.Sprint(n.uid, "/", n.repairs, wanted)
	switch {
	case n.restart.ID != id:
		n.restart = Restart{ID: id, Phase: RestartWaiting}
		s.logf("%s: needs a restart", n.name)
	case n.restart.Phase == RestartWaiting && n.approved == id:
		n.restart.Phase = RestartRunning
		s.logf("%s: restarts", n.name)
		s.promiseRestarts()
	}
	return false
}

func (s *sim) restartEnds(n *simNode) {
	if n.broken {
		n.restart.Phase, n.noPlace = RestartFailed, false
		s.logf("%s: the restart failed and was undone", n.name)
		return
	}
	n.directory, n.restart, n.noPlace = !n.directory, Restart{}, false
	s.logf("%s: restarted", n.name)
}

// goesAwayWhileItRestarts: a node that restarts is NotReady for long.
func (s *sim) goesAwayWhileItRestarts() {
	for _, n := range s.nodes {
		if n.ready && n.restart.Phase == RestartRunning {
			n.ready, n.downSince = false, s.now
			s.registryStops(n, false)
			s.now = s.now.Add(2 * time.Minute)
			s.logf("%s: NotReady, and restarts", n.name)
			return
		}
	}
}

func (s *sim) userRepairsTheNode() { s.anyNode().repair() }

func (n *simNode) repair() {
	if n.broken {
		n.broken = false
		n.repairs++
	}
}

func (s *sim) writeApprovals(next State) bool {
	changed := false
	for _, n := range s.nodes {
		if n.refused {
			continue
		}
		if id := next.ApprovedRestart(n.name, n.uid); id != n.approved {
			s.logf("controller: %s may do restart %q", n.name, id)
			n.approved, changed = id, true
		}
	}
	return changed
}

// losesPlaces notes, after an event, who restarts and had its place in what is gone: in
// the state and in its RegistryNode. Nothing is left then that could tell of it.
func (s *sim) losesPlaces() (after func()) {
	has := func(n *simNode) bool {
		return n.restart.Phase == RestartRunning && (n.approved == n.restart.ID || s.stored.ApprovedRestart(n.name, n.uid) == n.restart.ID)
	}
	var had []*simNode
	for _, n := range s.nodes {
		if has(n) {
			had = append(had, n)
		}
	}
	return func() {
		for _, n := range had {
			n.noPlace = n.noPlace || !has(n)
		}
	}
}

// promiseRestarts: never too many at once, and of the control plane never two. A node
// that is opted out while it restarts is not counted: as with one that is excluded, the
// operator says that nobody waits for it, and no report would ever free its place. Nor is
// one that has none, see losesPlaces.
func (s *sim) promiseRestarts() {
	running, controlPlane := 0, 0
	for _, n := range s.nodes {
		if n.restart.Phase == RestartRunning && !n.away && !n.noPlace {
			running++
			if n.controlPlane {
				controlPlane++
			}
		}
	}
	if running > simRestarts || controlPlane > 1 {
		s.violate("%d nodes restart at once, %d of the control plane", running, controlPlane)
	}
}

// watchApprovals: nobody is approved once it is known that one failed, and while that one
// is not opted out.
func (s *sim) watchApprovals(old, next State) {
	for _, a := range next.Desired.Restarts {
		known := slices.ContainsFunc(s.nodes, func(n *simNode) bool { return n.uid == a.UID && n.approved == a.ID })
		if known || slices.Contains(old.Desired.Restarts, a) {
			continue
		}
		for _, n := range s.cached { // as the pass saw them
			given := n.ApprovedRestart == n.Report.Restart.ID || next.ApprovedRestart(n.Name, n.UID) == n.Report.Restart.ID
			if n.Agent && n.Report.UID == n.UID && n.Report.Restart.Phase == RestartFailed && given {
				s.violate("%s may restart, although %s failed", a.Node, n.Name)
			}
		}
	}
}
