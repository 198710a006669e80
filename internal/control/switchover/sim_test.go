package switchover

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// A simulated cluster: nodes with memory, disk and a report, pods and
// templates, registries that die, and a controller whose writes happen one by
// one, in the order of the real one, so that it can be killed between any two.

type simNode struct {
	name, uid    string
	boot         int
	controlPlane bool
	ready        bool
	downSince    time.Time
	mem, disk    layout.Layout
	report       Report
	inFlight     Report // a report on its way to the API server
	tainted      bool
	joining      bool // what the taint says
	came         bool // after a layout was proved, and it has proved none yet
	hangs        bool // its agent serves what it has, and does nothing else
	away         bool // opted out by its label
	stale        bool // its report came out of a backup
	forgot       bool // what it serves is of after the backup that was restored
	lies         bool // its agent reports generations that it makes up
	noPlace      bool // it restarts, and nobody can know it
	refused      bool // what the controller writes on it is refused
	// fresh: it just joined, booted or came back, and the controller could not
	// taint it yet.
	fresh       bool
	freshAt     int
	pods        []layout.Name // of the platform's Deployment, by the name of their image
	bare        []layout.Name // that no template replaces
	custom      bool          // somebody's registry configuration is in containerd's
	legacy      bool
	legacyOrder int64 // the generation of the order back to the legacy format; 0: none
	proved      int64 // highest generation reported since it was installed
	reached     int64 // generation whose target has answered; the agent's memory on disk
	image       bool  // of the registry that runs in the cluster
	// v1 is a containerd that takes the host directory only after a restart.
	v1, directory, broken bool
	repairs               int
	store                 simStore
	restart               Restart
	approved              string // RegistryNode.spec.approvedRestart
}

// tenantsImage is in no registry.
const tenantsImage = "nope@sha256:1"

type simDeployment struct{ template, previous layout.Name }

// tamper leaves a rule out. The zero value leaves none.
type tamper struct {
	protocol      func(*sim, *Protocol) // rules of the product
	agentsGoBack  bool                  // agents take any layout, also an older one
	storeLast     bool                  // objects are written before the state
	noFence       bool                  // the layout is written whatever lies there
	oneSecret     bool                  // pull secrets hold only the wanted registry
	noTaint       bool                  // nobody taints
	lateDisk      bool                  // agents report before the layout is on disk
	oneBase       bool                  // only workloads under the active base are known
	noOwn         bool                  // own workloads stay where they are
	staleCensus   bool                  // Final believes a cached look
	staleNodes    bool                  // Final believes cached Nodes
	noLastWord    bool                  // Final does not ask the target once more
	oneLook       bool                  // Final believes the look that the check was made for
	absentIsOrder bool                  // agents take an absent layout for an order
	allNew        bool                  // who was there when the controller started is taken for new
	secretlyAhead bool                  // agents do not tell what they serve and cannot prove
	onlyUnmanaged bool                  // agents go back only from a layout of Unmanaged
	noSizes       bool                  // a wish is followed whatever its size
	fullTexts     bool                  // a state that is too large is not tried with less text
	onlyReached   bool                  // agents report when the target answers, whatever it answers
	stores        bool                  // all histories are about stores
	noFallThrough bool                  // agents with stores ask nobody else
}

type sim struct {
	focus focus
	rng   *rand.Rand
	p     Protocol
	t     tamper
	now   time.Time
	tick  int
	trail *[]string

	spec, specBefore Spec
	stored           State
	older            []State // copies that somebody may restore
	backups          []simBackup
	started          time.Time
	came             map[string]time.Time // as nodes.Keeper remembers it; nil: a new process
	work             []func() bool        // writes of this pass; false ends it

	layout, layoutBefore layout.Layout // Secret registry-bashible-config, now and before
	found                bool
	version              int // its resourceVersion
	late                 func()

	registry    Target // Secret deckhouse-registry
	secrets     []Target
	bootstrap   []upstream.Upstream
	own         upstream.Upstream
	deployment  simDeployment
	foreign     layout.Name // what GitOps keeps naming; zero: nobody does
	tenant      layout.Name // what a tenant's pod names, with an image that is nowhere
	proxy       bool
	proxySecret layout.Layout
	proxyLoaded layout.Layout
	stores      simStores
	lastUse     time.Time
	nodes       []*simNode
	census      []Reference // as cached
	cached      []Node
	looked      []Reference // by the first close look
	wanted      CheckRequest
	report      CheckReport
	uids        int

	ups     []upstream.Upstream // A, A with rotated credentials, B, C
	alive   []bool
	pod     *simNode         // of the registry that runs in this cluster
	copied  bool             // an older copy of the state was put back
	refused bool             // the state was, for its size
	cut     bool             // the texts of the stored state were cut
	pages   uint             // those that answer everything with a web page; the image check believes them
	hashes  map[int64]string // generation -> content, for the test without generations

	// What the promise is about; see promise_test.go.
	entitled, entitledProxy, checked uint
	safe                             int64
	proxyForgot                      bool     // after a restore, until the proxy has learnt a layout again
	unseen                           []string // nodes that were away at the preflight
	violation                        string
	switches                         int // how many were ended
}

func simUpstreams() []upstream.Upstream {
	of := func(host, path, password string) upstream.Upstream {
		return upstream.Upstream{Host: host, Path: path, Scheme: upstream.HTTPS,
			Credentials: upstream.Credentials{Username: "u", Password: password}}
	}
	return []upstream.Upstream{of("a.io", "x/ee", "1"), of("a.io", "x/ee", "2"), of("b.io", "mirror", "1"), of("c.io", "", "1")}
}

func newSim(seed uint64, p Protocol, t tamper) *sim {
	s := &sim{
		rng: rand.New(rand.NewPCG(seed, 1)), p: p, t: t,
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), ups: simUpstreams(),
		alive: []bool{true, true, true, true}, hashes: map[int64]string{},
		focus: focus(rand.New(rand.NewPCG(seed, 4)).IntN(12)),
	}
	if t.stores {
		s.focus = onStores
	}
	if t.protocol != nil {
		s.p.modes = maps.Clone(p.modes) // others use it at the same time
		t.protocol(s, &s.p)
	}
	if b := s.ups[2]; s.focus == onInside {
		s.alive[inside] = false // it starts with the nodes
	} else if rand.New(rand.NewPCG(seed, 3)).IntN(4) == 0 {
		s.alive[2], s.pages = false, s.bit(b)
	}
	a := s.ups[0]
	s.started = s.now
	s.registry = Target{Mode: Unmanaged, Upstream: a}
	s.secrets = []Target{s.registry}
	s.own, s.bootstrap = a, []upstream.Upstream{a}
	s.deployment.template = layout.NameOf(a)
	s.spec = Spec{Mode: Unmanaged}
	s.entitled, s.checked = 1, 1
	if s.rng.IntN(3) == 0 {
		s.foreign = layout.NameOf(a)
	}
	size := 3
	if s.focus == onRestores && s.rng.IntN(2) == 0 {
		size = 1
	}
	for i := range size {
		n := s.newNode(i)
		n.controlPlane, n.custom = i == 0, s.rng.IntN(8) == 0
		n.v1, n.broken = s.focus == onRestarts || s.rng.IntN(3) == 0, s.rng.IntN(6) == 0
		n.pods = []layout.Name{s.deployment.template}
		s.nodes = append(s.nodes, n)
	}
	s.registryStarts()
	s.caches()
	if s.rng.IntN(4) > 0 {
		s.userEdits()
	}
	return s
}

func (s *sim) logf(format string, args ...any) {
	if s.trail != nil {
		*s.trail = append(*s.trail, fmt.Sprintf("%4d  ", s.tick)+fmt.Sprintf(format, args...))
	}
}

func (s *sim) index(u upstream.Upstream) int { return slices.Index(s.ups, u) }

func (s *sim) bit(u upstream.Upstream) uint {
	if i := s.index(u); i >= 0 {
		return 1 << i
	}
	return 0
}

func (s *sim) aliveBits() (bits uint) {
	for i, alive := range s.alive {
		if alive {
			bits |= 1 << i
		}
	}
	return bits
}

func (s *sim) isAlive(u upstream.Upstream) bool { return s.bit(u)&s.aliveBits() != 0 }

// control is one step of the controller: a whole look at the cluster and the
// write of the state, or one of the writes that follow from it.
func (s *sim) control() {
	if !s.write() {
		s.pass()
	}
}

// write does the next write that changes something.
func (s *sim) write() bool {
	for len(s.work) > 0 {
		write := s.work[0]
		s.work = s.work[1:]
		if write() {
			return true
		}
	}
	return false
}

func (s *sim) pass() {
	w, version := s.observe()
	s.refuseWhatCannotFit(&w)
	seen := s.tick
	next := s.p.Advance(s.stored, w)
	s.wants(next, w)
	store := func() bool { return s.store(next) }
	writes := []func() bool{
		func() bool { return s.writeTaints(next, w, seen) },
		func() bool { return s.writeSecrets(next) },
		func() bool { return s.writeLayout(next, w.Published, version) },
		func() bool { return s.writeApprovals(next) },
		func() bool { return s.writeProxy(next, w.ProxyPublished) },
		func() bool { return s.writeStores(next, w.StorePublished) },
		func() bool { return s.writeRegistry(next) },
		func() bool { return s.writeDeployment(next) },
		func() bool { return s.writeOwn(next) },
	}
	if s.t.storeLast {
		s.work = append(writes, store)
		return
	}
	s.work = writes
	store()
}
