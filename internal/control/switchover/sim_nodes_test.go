package switchover

import (
	"fmt"
	"math"
	"time"

	"github.com/d8-registry/registry/internal/layout"
)

// What users and the world do to a node and to the objects that stand for it.

// agentHangsOrWakes: it serves what it has, and neither reads nor reports.
func (s *sim) agentHangsOrWakes() {
	n := s.anyNode()
	n.hangs = !n.hangs
	s.logf("%s: its agent hangs: %v", n.name, n.hangs)
}

func (s *sim) registryNodeDeleted() { s.deleteRegistryNode(s.anyNode()) }

// registryNodesDeleted: the CRD is made anew while one agent is dead.
func (s *sim) registryNodesDeleted() {
	s.anyNode().hangs = true
	for _, n := range s.nodes {
		s.deleteRegistryNode(n)
	}
}

func (s *sim) deleteRegistryNode(n *simNode) {
	s.logf("USER: deletes RegistryNode %s", n.name)
	defer s.losesPlaces()()
	n.report, n.inFlight, n.approved = Report{}, Report{}, ""
}

// nodeLies: its agent, or who has its token, begins to make up generations, or ends it.
// Most nodes do not.
func (s *sim) nodeLies() {
	n, lies := s.anyNode(), false
	for _, o := range s.nodes {
		lies = lies || o.lies
		o.speaksTrue()
	}
	if !lies {
		n.lies, n.proved = true, 0
	}
	s.logf("%s: lies: %v", n.name, n.lies)
}

func (n *simNode) speaksTrue() {
	if n.lies {
		n.lies, n.proved, n.report, n.inFlight = false, 0, Report{}, Report{}
	}
}

// lie makes up one of the generations that a node reports.
func (s *sim) lie(r *Report, n *simNode) {
	made := []int64{math.MaxInt64, math.MaxInt64 - 1, 1 << 40, maxJump, n.mem.Generation + int64(s.rng.IntN(9)), math.MinInt64}[s.rng.IntN(6)]
	*[]*int64{&r.Generation, &r.Ahead, &r.Served}[s.rng.IntN(3)] = made
}

// nodeOptsOutOrIn: without the agent nothing is promised there, and its pods go
// elsewhere. When it comes back it may be anything.
func (s *sim) nodeOptsOutOrIn() {
	n := s.anyNode()
	if n.away {
		s.comesBack(n)
		return
	}
	n.away, n.pods, n.bare = true, nil, nil
	s.logf("USER: %s opts out", n.name)
	if s.rng.IntN(2) == 0 {
		s.deleteRegistryNode(n)
	}
}

func (s *sim) comesBack(n *simNode) {
	if n.away {
		n.away, n.fresh, n.freshAt = false, true, s.tick
		n.mem = n.disk
		s.logf("USER: %s is back, serves %d", n.name, n.mem.Generation)
	}
}

// nodeRefusesWrites: a webhook of somebody refuses what the controller writes on one
// node, or no longer. As long as it does so, no taint can keep pods away.
func (s *sim) nodeRefusesWrites() {
	n := s.anyNode()
	if n.refused = !n.refused; n.refused {
		n.fresh, n.freshAt = true, s.tick
	}
	s.logf("%s: writes are refused: %v", n.name, n.refused)
}

func (s *sim) nodeDown() {
	if n := s.anyNode(); n.ready {
		n.ready, n.downSince = false, s.now
		s.registryStops(n, s.rng.IntN(2) == 0)
		s.logf("%s: NotReady", n.name)
		if s.rng.IntN(2) == 0 {
			s.now = s.now.Add(2 * time.Minute)
		}
	}
}

func (s *sim) nodeUp() {
	if n := s.anyNode(); !n.ready {
		n.ready, n.fresh, n.freshAt, n.store.late = true, true, s.tick, true
		if s.rng.IntN(2) == 0 {
			s.boot(n)
		}
		s.logf("%s: Ready again, serves %d", n.name, n.mem.Generation)
	}
}

func (s *sim) boot(n *simNode) {
	n.boot++
	n.mem, n.fresh, n.freshAt = n.disk, true, s.tick
}

func (s *sim) nodeReboots() {
	if n := s.anyNode(); n.ready {
		s.boot(n)
		s.registryStops(n, false)
		s.logf("%s: reboots, serves %d from disk", n.name, n.mem.Generation)
	}
}

func (s *sim) nodeReimaged() {
	if n := s.anyNode(); n.ready {
		n.disk, n.pods, n.bare, n.custom, n.legacy, n.proved = layout.Layout{}, nil, nil, false, false, 0
		n.directory, n.restart, n.repairs = false, Restart{}, n.repairs+1
		n.reached, n.image = 0, false
		n.store = simStore{asked: n.store.asked}
		s.boot(n)
		s.registryStops(n, true)
		s.logf("%s: re-imaged under the same name", n.name)
	}
}

func (s *sim) nodeJoins() {
	fresh := s.newNode(len(s.nodes))
	if last := len(s.nodes) - 1; len(s.nodes) < 4 {
		s.nodes = append(s.nodes, fresh)
		s.logf("%s: joins", fresh.name)
	} else {
		gone := s.nodes[last]
		fresh.name, fresh.report, fresh.approved, fresh.store.asked = gone.name, gone.report, gone.approved, gone.store.asked // the old RegistryNode is not collected yet
		s.nodes[last] = fresh
		s.registryStops(gone, true)
		s.logf("%s: replaced by a new one", gone.name)
	}
	fresh.came = s.safe > 0
}

func (s *sim) newNode(i int) *simNode {
	s.uids++
	return &simNode{name: fmt.Sprintf("node%d", i), uid: fmt.Sprint("u", s.uids), ready: true, fresh: true, freshAt: s.tick}
}
