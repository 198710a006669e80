package switchover

import (
	"fmt"
	"slices"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Stores in the simulation: two nodes run one each. What they have on disk is not in it:
// a cache that is empty asks the registry, and one that is full answers what it would.

// simStores are what the API server has of them.
type simStores struct {
	secret layout.Layout // in Secret registry-store
	wanted bool
	alone  Role // behind the Service
	// served is whether one has served since they were wanted: then in-cluster clients
	// may be there, and only faults leave them without one.
	served bool
	unsure bool // a state was lost or put back
	lags   Role // does not read its layout again
}

// simStore is one on its node.
type simStore struct {
	asked, runs, dead bool
	late              bool // its node was away, and it serves what it had until its agent has looked
	loaded            layout.Layout
	proved            upstream.Upstream // the target of loaded, once it alone has served the store
}

func (s *sim) storeNodes() []*simNode { return s.nodes[:min(2, len(s.nodes))] }

func (n *simNode) endpoint() string { return "10.0.0." + n.uid[1:] + ":5001" }

func (n *simNode) storeServes() bool {
	return n.ready && n.store.runs && !n.store.dead && !n.store.loaded.IsZero()
}

// storeWork is what stores and agents do for them.
func storeWork() []event {
	return []event{{10, func(s *sim) { s.storeWorks(s.anyNode()) }}, {4, (*sim).storesLoad}}
}

func storeFaults() []event {
	return []event{
		{12, (*sim).userEdits}, {6, (*sim).storeDies}, {4, (*sim).storeReturns}, {4, (*sim).storeForgets}, {3, (*sim).allStoresDie},
		{3, (*sim).userReverts}, {2, (*sim).userEditsTheSecret}, {2, (*sim).userUndoesTheRollout}, {2, (*sim).oldManifestApplied},
		{4, (*sim).registryDies}, {2, (*sim).registryReturns}, {3, (*sim).crash}, {2, (*sim).failover}, {1, (*sim).oldLeaderWakes},
		{2, (*sim).nodeDown}, {3, (*sim).nodeUp}, {2, (*sim).nodeReboots}, {1, (*sim).nodeReimaged}, {2, (*sim).nodeJoins},
		{3, (*sim).switchesWhileTheOthersLag}, {2, (*sim).storeNodeReplaced}, {2, (*sim).agentHangsOrWakes}, {2, (*sim).nodeOptsOutOrIn}, {1, (*sim).userDeletesTheLayout},
		{2, (*sim).stateLost}, {1, (*sim).stateRestored}, {2, (*sim).backsUp}, {2, (*sim).restored},
	}
}

func (s *sim) anyStore() *simStore {
	nodes := s.storeNodes()
	return &nodes[s.rng.IntN(len(nodes))].store
}

func (s *sim) storeDies() {
	if st := s.anyStore(); st.runs {
		st.dead = true
		s.logf("STORE with layout %d dies", st.loaded.Generation)
	}
}

func (s *sim) allStoresDie() {
	for _, n := range s.storeNodes() {
		n.store.dead = true
	}
	s.logf("STORES die")
}

func (s *sim) storeReturns() { s.anyStore().dead = false }

// storeForgets: its disk is another one.
func (s *sim) storeForgets() {
	s.anyStore().loaded = layout.Layout{}
	s.logf("STORE loses its disk")
}

// storeNodeReplaced: a node of the control plane is another machine.
func (s *sim) storeNodeReplaced() {
	if i := s.rng.IntN(2); i < len(s.nodes) {
		gone, fresh := s.nodes[i], s.newNode(i)
		fresh.name, fresh.controlPlane, fresh.report, fresh.store.asked = gone.name, gone.controlPlane, gone.report, gone.store.asked
		fresh.came = s.safe > 0
		s.nodes[i] = fresh
		s.registryStops(gone, true)
		s.logf("%s: replaced by a new one", gone.name)
	}
}

// switchesWhileTheOthersLag: those behind the Service that the new mode does without do
// not read their layout any more, and the old registry dies as soon as it may.
func (s *sim) switchesWhileTheOthersLag() {
	from, target := s.stored.Active, s.ups[s.rng.IntN(len(s.ups))]
	if !s.stored.Ready() || s.stored.Target != from || len(s.work) > 0 || target == from.Upstream || !s.isAlive(target) || !s.p.hasFixedAddress(from.Mode) {
		return
	}
	to := Direct
	if s.stores.lags = NodeServices; from.Mode == Direct {
		to, s.stores.lags = ModeProxy, InClusterProxy
	}
	s.setSpec(Spec{Mode: to, Upstream: target})
	for range 20 {
		if s.round(); s.violation != "" {
			return
		}
		if s.stored.Target.Mode == to && s.stored.Finalized > 0 {
			s.alive[s.index(from.Upstream)] = false
			s.logf("REGISTRY %s dies", from.Upstream.Host)
			s.promise()
			break
		}
	}
	s.stores.lags = Agents
}

// storeWorks is the agent's part and the store's: it starts, reads what it is given, or
// stops.
func (s *sim) storeWorks(n *simNode) {
	st := &n.store
	switch {
	case !n.ready || n.hangs || n.away:
	case !st.asked:
		*st = simStore{}
	case !st.runs:
		st.runs = true
	case s.stores.lags == NodeServices && !st.loaded.IsZero() && !st.late:
	case !s.stores.secret.IsZero() && (st.loaded.Generation != s.stores.secret.Generation || !st.loaded.SameContent(s.stores.secret)):
		st.loaded = s.stores.secret
		st.late = false
		s.logf("%s: store serves layout %d", n.name, st.loaded.Generation)
	default:
		st.late = false
	}
	if n.storeServes() && s.isAlive(st.loaded.Target) {
		st.proved = st.loaded.Target
	}
	s.stores.served = s.stores.served || n.storeServes()
}

// storeStandsIn reports whether a store stands in for the target of a layout of nodes, as
// routes.StandIn has it.
func (s *sim) storeStandsIn(l layout.Layout) bool {
	return l.Mode == layout.Proxy && slices.ContainsFunc(s.nodes, func(n *simNode) bool {
		knows := slices.Contains(n.store.loaded.Upstreams(), l.Target)
		return n.storeServes() && knows && slices.Contains(l.Stores.Endpoints, n.endpoint()) && (l.Active == l.Target || n.store.proved == l.Target)
	})
}

func (s *sim) storesLoad() {
	for _, n := range s.nodes {
		s.storeWorks(n)
	}
}

func (s *sim) writeStores(next State, seen Published) bool {
	want, changed := next.Desired, false
	if l := want.StoreLayout; !l.IsZero() && (s.stores.secret.Generation != l.Generation || !s.stores.secret.SameContent(l)) {
		if err := next.MayPublish(NodeServices, seen); err != nil && !s.t.noFence {
			s.logf("controller: stores: %v", err)
			s.work = nil
			return true
		}
		s.logf("controller: stores are given layout %d%s", l.Generation, describeLayout(l))
		s.stores.secret, changed = l, true
	}
	wanted := !want.Store.IsZero()
	if s.stores.wanted != wanted || s.stores.alone != want.Store.Alone {
		s.logf("controller: stores %v, alone %d", wanted, want.Store.Alone)
		changed = true
	}
	s.stores.wanted, s.stores.alone = wanted, want.Store.Alone
	if !wanted {
		s.stores.secret, s.stores.served = layout.Layout{}, false
	}
	for _, n := range s.nodes {
		if asked := wanted && slices.Contains(s.storeNodes(), n); asked != n.store.asked && !n.refused {
			n.store.asked, changed = asked, true
		}
	}
	return changed
}

func (s *sim) observeStores(w *Observed) {
	w.StorePublished = Published{Layout: s.stores.secret, Found: !s.stores.secret.IsZero()}
	seen := &w.Store
	*seen = Stores{LastUse: s.lastUse, Reach: layout.Stores{CA: "ca"}}
	for _, n := range s.nodes {
		wanted, reached := slices.Contains(s.storeNodes(), n), n.ready && !n.away
		there := n.store.asked || n.store.runs
		switch {
		case !reached && (wanted || there):
			seen.Missing = append(seen.Missing, n.name)
			continue
		case there && n.hangs && s.stored.Desired.Store.IsZero():
			seen.Missing = append(seen.Missing, n.name) // nobody stops it before its agent wakes
		case there:
			seen.Exists = true
		}
		switch {
		case !wanted || !reached:
		case !n.storeServes():
			seen.Wanted++
			seen.Waiting = append(seen.Waiting, n.name)
		default:
			seen.Wanted++
			seen.Ready++
			seen.Endpoints = append(seen.Endpoints, n.endpoint())
			if g := n.store.loaded.Generation; seen.Ready == 1 || g < seen.Generation {
				seen.Generation = g
			}
		}
	}
	if slices.Sort(seen.Endpoints); s.storesPull(seen.Endpoints, layout.Fixed()) {
		seen.Pulled = seen.Generation
	}
	if s.stores.wanted {
		w.Proxy.Fallback = layout.Fallback{Host: "10.96.0.17:5001", CA: "ca"}
	}
}

// storesPull: one of them serves it.
func (s *sim) storesPull(endpoints []string, name layout.Name) bool {
	return slices.ContainsFunc(s.nodes, func(n *simNode) bool {
		r, ok := n.store.loaded.Route(name)
		return ok && n.storeServes() && slices.Contains(endpoints, n.endpoint()) && slices.ContainsFunc(r.Upstreams, s.isAlive)
	})
}

// serviceServes: whoever stands behind Service registry serves its clients, or only
// faults of stores keep it from that. A client is led to any of them, so that all must
// serve; who stands there while a state is rebuilt is not known.
func (s *sim) serviceServes() bool {
	standing, serving := 0, 0
	if s.proxy && s.stores.alone != NodeServices && !s.proxyLoaded.IsZero() {
		standing++
		if s.proxyServes() {
			serving++
		}
	}
	for _, n := range s.nodes {
		if !n.storeServes() || !n.store.asked || n.store.late || s.stores.alone == InClusterProxy {
			continue
		}
		standing++
		if s.storesPull([]string{n.endpoint()}, layout.Fixed()) {
			serving++
		}
	}
	if standing == 0 {
		return s.stores.served && s.stores.alone != InClusterProxy
	}
	return serving == standing || serving > 0 && s.stores.unsure
}

// watchStores: nodes are told of who serves, and of nobody who is to stop.
func (s *sim) watchStores(old, next State) {
	was, now := old.Desired, next.Desired
	target := s.bit(next.Target.Upstream)
	for _, endpoint := range now.Layout.Stores.Endpoints {
		known := slices.Contains(was.Layout.Stores.Endpoints, endpoint) || slices.Contains(s.layout.Stores.Endpoints, endpoint)
		i := slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.endpoint() == endpoint })
		if !known && (i < 0 || !s.nodes[i].storeServes()) {
			s.violate("nodes hear of a store at %s that does not serve", endpoint)
		}
		if first := was.Layout.Stores.IsZero() && s.layout.Stores.IsZero(); first && !known && i >= 0 && s.upstreamsOf(s.nodes[i].store.loaded)&target == 0 {
			s.violate("nodes hear of a store at %s that does not know %s", endpoint, next.Target.Upstream.Host)
		}
	}
	for _, u := range now.Layout.Upstreams() {
		if s.bit(u) == 0 {
			s.violate("%s is an upstream", u)
		}
	}
	if was.Proxy && !now.Proxy && s.stores.wanted && s.p.modes[next.Target.Mode].store && !slices.ContainsFunc(s.nodes, (*simNode).storeServes) {
		s.violate("the proxy stops, and no store stands in for it")
	}
	if was.Store.IsZero() || !now.Store.IsZero() {
		return
	}
	for _, n := range s.nodes {
		excluded := slices.ContainsFunc(next.Excluded, func(e Exclusion) bool { return e.UID == n.uid })
		if !n.ready || !validReport(Node{UID: n.uid, BootID: fmt.Sprint(n.boot), Report: n.report}) || excluded || n.away {
			continue
		}
		if !n.mem.Stores.IsZero() {
			s.violate("stores stop, and %s still asks them", n.name)
		}
		if n.mem.Fallback != (layout.Fallback{}) && !s.proxy {
			s.violate("stores stop, and %s is still sent to the Service", n.name)
		}
	}
}

// storesLeft says what of the stores is not as the mode needs it.
func (s *sim) storesLeft() string {
	stores := s.p.modes[s.stored.Target.Mode].store
	l := s.stored.Desired.Layout.Stores
	if stores != s.stores.wanted || stores == s.stored.Desired.StoreLayout.IsZero() || stores == l.IsZero() {
		return "stores are not as the mode needs them"
	}
	for _, n := range s.nodes {
		wanted := stores && slices.Contains(s.storeNodes(), n)
		if wanted != n.storeServes() || wanted != slices.Contains(l.Endpoints, n.endpoint()) {
			return "the store on " + n.name + " is not as the mode needs it"
		}
	}
	if len(l.Endpoints) > len(s.nodes) {
		return "a store that is gone is left"
	}
	return ""
}
