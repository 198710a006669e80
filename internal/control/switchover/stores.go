package switchover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
)

// Stores are caches on nodes, asked before the registries of a route and never instead
// of them. They are in no union: what the rules count does not know them. So an endpoint
// may come and go with any generation, and a store that dies costs no pull.

// Store is whether nodes should run stores, and how. Its zero value is: none.
type Store struct {
	// Revision is the generation at which they were last asked for; 0: none should run.
	Revision int64 `json:"revision,omitempty"`
	// Alone is the role that stands alone behind Service registry from the moment that
	// the platform moves: the other one may be behind with its layout. While it is
	// Agents all that there is stands there.
	Alone Role `json:"alone,omitempty"`
	// TTL is the Spec's, of a mode with stores.
	TTL time.Duration `json:"ttl,omitempty"`
}

// IsZero reports whether no stores should run.
func (s Store) IsZero() bool { return s.Revision == 0 }

// Stores are all stores as observed.
type Stores struct {
	// Exists is whether one runs, or may, on a node that can be reached.
	Exists bool
	// Wanted is one per schedulable, Ready node that should have one; Ready is how many
	// of those were seen to serve. Waiting names the others of them.
	Wanted, Ready int
	Waiting       []string
	// Endpoints are those of the ready ones, IP and port, sorted.
	Endpoints []string
	// Reach is how readers reach them: with which CA and which user. Its endpoints are
	// not read.
	Reach layout.Stores
	// Generation is the lowest of the layouts that the ready ones serve, Pulled the one
	// at which an image was pulled through each of them and through Service registry.
	Generation, Pulled int64
	// Oldest names the ready ones that serve no later one than Generation.
	Oldest []string
	// Cached of Used images in use are on the stores.
	Cached, Used int
	// Message says what is missing, in words; empty when nothing.
	Message string
	// Missing are nodes that are cordoned, lost or left out, each with the reason. They are
	// not waited for. A store may run there.
	Missing []string
	// Gone are those that have not served for a while since the switch ended, of Wanted and
	// Missing, each with the reason and the time.
	Gone []string
	// LastUse is when an in-cluster client was last seen using one, by the controller's
	// clock; Clients names the last ones.
	LastUse time.Time
	Clients []string
}

// nodeServicesRun starts the stores, with a layout of their own, and waits until each
// serves it. Nodes hear nothing of them yet.
func nodeServicesRun(e *evaluation) verdict {
	want, seen := &e.s.Desired, e.seen.Store
	e.startStores()
	e.setStoreLayout(e.rules.stores(e, e.rules.union(e)).Plus(want.StoreLayout))
	l := want.StoreLayout
	switch {
	case seen.Wanted == 0:
		return wait(noStoresMessage(seen))
	case seen.Ready < seen.Wanted, seen.Message != "", seen.Generation != l.Generation:
		return wait(storesMessage(seen, l))
	case e.seen.Proxy.Fallback == layout.Fallback{} && want.Layout.Fallback == layout.Fallback{}:
		return wait("Deploying node services: Service has no address yet.")
	case seen.Pulled != l.Generation:
		return wait("Deploying node services: no image was pulled through each of them yet.")
	}
	return done(listed("Not waited for:", seen.Missing))
}

func (e *evaluation) startStores() {
	if e.s.Desired.Store.IsZero() {
		e.s.Desired.Store.Revision = e.s.Generation
	}
}

// nodeServicesAreGone stops the stores. Nodes forget them first, and where nothing else
// stands behind Service registry its clients leave before, and the nodes' second way to it.
func nodeServicesAreGone(e *evaluation) verdict {
	want, seen := &e.s.Desired, e.seen.Store
	if want.Store.IsZero() && !seen.Exists && e.s.StoresRemoved == 0 {
		return done("")
	}
	row := e.modes[e.s.Target.Mode]
	switch {
	case want.Store.IsZero():
	case row.proxy:
		if v := proxyRuns(e); !v.done {
			return v
		}
	case e.isUsed(seen.LastUse):
		return wait(inUseMessage("node services", seen.Clients))
	default:
		e.dropFallback()
	}
	if next := want.Layout; !next.Stores.IsZero() {
		next.Stores = layout.Stores{}
		e.publish(next)
		e.s.StoresRemoved = want.Layout.Generation
	}
	if g := max(e.s.StoresRemoved, e.s.FallbackRemoved); g > 0 {
		if v := e.barrier(g); !v.done {
			return v
		}
	}
	if !want.Store.IsZero() {
		want.Store, want.StoreLayout, want.StoreShrunk = Store{}, layout.Layout{}, 0
		e.s.StoresRemoved = max(e.s.StoresRemoved, want.Layout.Generation)
		e.s.NamesChecked = time.Time{} // the fixed name was kept for their clients
	}
	if seen.Exists {
		return wait("Stopping node services...")
	}
	if e.hasFixedAddress(e.s.Target.Mode) || want.Layout.IsZero() {
		return done(leftStoresMessage(seen))
	}
	v := e.nameIsGone()
	v.message = withLines(v.message, leftStoresMessage(seen))
	return v
}

// chooseService leaves one role behind Service registry, before its clients move: the
// one that waited until it served the new registry.
func (e *evaluation) chooseService() {
	row, store := e.modes[e.s.Target.Mode], &e.s.Desired.Store
	switch {
	case store.IsZero():
	case row.store:
		store.Alone = NodeServices
	case row.proxy:
		store.Alone = InClusterProxy
	default:
		store.Alone = Agents
	}
}

// storesAreAs reports whether stores are what a target needs, with nothing left to do.
func (e *evaluation) storesAreAs(t Target) bool {
	want := e.s.Desired
	if !e.modes[t.Mode].store {
		return want.Store.IsZero() && want.Layout.Stores.IsZero()
	}
	return !want.Store.IsZero() && !want.Layout.Stores.IsZero() && want.StoreLayout.SameContent(e.rules.stores(e, want.Layout))
}

// storeLayout is what stores route by beside a layout of the agents: the registries
// themselves.
func storeLayout(_ *evaluation, agents layout.Layout) layout.Layout {
	agents.Fallback, agents.Stores = layout.Fallback{}, layout.Stores{}
	return agents
}

// setStoreLayout makes it the layout that stores should have, if there should be any.
// It takes a generation that no layout of theirs had.
func (e *evaluation) setStoreLayout(next layout.Layout) {
	want := &e.s.Desired
	next.Schema = layout.Schema
	if want.Store.IsZero() || len(next.Routes) == 0 || next.SameContent(want.StoreLayout) {
		return
	}
	if e.s.Generation == want.StoreLayout.Generation {
		e.s.Generation++
	}
	next.Generation = e.s.Generation
	if want.StoreLayout.IsZero() || !next.Covers(want.StoreLayout) { // what those before had has ended
		want.StoreShrunk = next.Generation
	}
	want.StoreLayout = next
}

// learnStores keeps the endpoints in the layout as they are seen, from Transition until
// Cleanup takes them out, and the TTL as it is asked for.
func (e *evaluation) learnStores() {
	if spec := e.seen.Spec; !e.s.Desired.Store.IsZero() && e.modes[spec.Mode].store {
		e.s.Desired.Store.TTL = spec.TTL
	}
	l := e.s.Desired.Layout
	if e.s.Desired.Store.IsZero() || l.Stores.IsZero() || e.s.StoresRemoved > 0 {
		return
	}
	next := l
	if next.Stores = e.endpoints(); !next.SameContent(l) {
		e.publish(next)
	}
}

// endpoints are the stores that readers should ask. One that should run and does not
// serve stays: it comes back, nobody misses it, and each change is a layout for every
// node. It goes when it is not wanted any more and all that are wanted serve.
func (e *evaluation) endpoints() layout.Stores {
	seen, published := e.seen.Store, e.s.Desired.Layout.Stores
	next := seen.Reach
	if next.CA == "" {
		next = published // what is not known now stays
	}
	next.Endpoints = slices.Clone(seen.Endpoints)
	if seen.Wanted == 0 || seen.Ready < seen.Wanted {
		next.Endpoints = append(slices.Clone(published.Endpoints), next.Endpoints...)
	}
	slices.Sort(next.Endpoints)
	next.Endpoints = slices.Compact(next.Endpoints)
	next.Endpoints = next.Endpoints[:min(len(next.Endpoints), layout.MaxStores)]
	if len(next.Endpoints) == 0 {
		return layout.Stores{}
	}
	return next
}

// storesAreUnknown reports whether stores have a layout that does not follow from the
// stored state.
func (e *evaluation) storesAreUnknown() bool {
	published, found := e.seen.StorePublished.read()
	unknown := !e.s.Desired.Store.IsZero() && e.s.MayPublish(NodeServices, e.seen.StorePublished) != nil
	return found && (published.Generation > e.s.Generation || unknown)
}

// rebuildStores: stores that are there stay, with the union of all that is known, until
// the plan of the target says otherwise.
func (e *evaluation) rebuildStores(want *Desired) {
	published, found := e.seen.StorePublished.read()
	stored := e.s.Desired
	if stored.Store.IsZero() && !e.seen.Store.Exists && !found && want.Layout.Stores.IsZero() {
		return
	}
	want.Store = Store{Revision: e.s.Generation, TTL: stored.Store.TTL}
	next := e.rules.stores(e, want.Layout)
	for _, l := range []layout.Layout{stored.StoreLayout, published} {
		switch {
		case len(next.Routes) == 0:
			next = l
		default:
			next = next.Plus(l)
		}
	}
	if len(next.Routes) > 0 {
		next.Schema, next.Generation = layout.Schema, e.s.Generation
		want.StoreLayout, want.StoreShrunk = next, stored.StoreShrunk
	}
}

// NotSupported says that there is no way from one mode to another; empty if there is.
func (p Protocol) NotSupported(from, to Mode) string {
	if !slices.Contains(p.modes[to].notFrom, from) {
		return ""
	}
	return fmt.Sprintf("mode transition from %s to %s not supported", from, to)
}

// refuse takes what is asked for as no wish if no way leads there, and says so. The way
// back to what is active is always open.
func (e *evaluation) refuse() string {
	to := e.seen.Spec.Mode
	text := e.NotSupported(e.s.Active.Mode, to)
	if text != "" {
		e.seen.Spec = Spec{Problem: "ModuleConfig " + names.ModuleConfigName + ": " + text + "."}
	}
	return text
}

func (e *evaluation) reportRefused(text string) {
	if text == "" {
		return
	}
	c := e.conditionOf(names.ConditionNotSupported, verdict{true, text})
	c.Reason = names.ReasonError
	last := len(e.s.Conditions) - 1
	e.s.Conditions = slices.Insert(slices.Clone(e.s.Conditions), last, c)
}

// storesMessage is what stores are waited for. One with another layout is not ready for this
// switch, though it serves.
func storesMessage(s Stores, l layout.Layout) string {
	waiting, ready := s.Waiting, s.Ready
	if s.Generation != l.Generation {
		waiting, ready = append(slices.Clone(waiting), s.Oldest...), ready-len(s.Oldest)
		slices.Sort(waiting)
	}
	if s.Message != "" && len(waiting) == 0 {
		return "Deploying node services: " + foreign.Line(s.Message, foreign.Sentence)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d/%d node(s) ready. Waiting:\n", ready, s.Wanted)
	for _, node := range waiting[:min(len(waiting), mostNodes)] {
		fmt.Fprintf(&b, "- %s: services pod(s) is not Ready or config version mismatch (!= %s)\n", foreign.Line(node, foreign.Word), quoteVersion(l.Version()))
	}
	if more := len(waiting) - mostNodes; more > 0 {
		fmt.Fprintf(&b, "\t...and %d more\n", more)
	}
	b.WriteString(foreign.Line(s.Message, foreign.Sentence))
	return withLines(b.String(), listed("Not waited for:", s.Missing))
}

func noStoresMessage(s Stores) string {
	return withLines("0/0 node(s) ready. No node can run node services: none of the control plane, or with label registry.deckhouse.io/store, is Ready and schedulable.",
		listed("Not waited for:", s.Missing))
}

// standingStoresMessage is how stores are after the switch.
func standingStoresMessage(s Stores) string {
	of := s.Wanted + len(s.Missing)
	message := fmt.Sprintf("%d/%d node(s) ready", of-len(s.Gone), of)
	if s.Used > 0 {
		message += fmt.Sprintf(", cache holds %d of %d images in use", s.Cached, s.Used)
	}
	return withLines(message, listed("Not seen to serve:", s.Gone))
}

// goneStoresMessage is what users should know of that in any case.
func goneStoresMessage(s Stores) string {
	of := s.Wanted + len(s.Missing)
	if len(s.Gone) == of {
		return listed("No node services are seen to serve. Nodes pull from the registry, and nobody stands behind Service registry:", s.Gone)
	}
	return listed(fmt.Sprintf("Node services of %d of %d node(s) are not seen to serve, and pulls go on without them:", len(s.Gone), of), s.Gone)
}

// leftStoresMessage names nodes on which a store may still run. Their agents stop it
// when they are back.
func leftStoresMessage(s Stores) string {
	return listed("Node services may still run on node(s) that are not reached:", s.Missing)
}

// listed puts a line for each of a list below a title; it is empty for none.
func listed(title string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return title + "\n- " + strings.Join(capped(list, mostNodes), "\n- ")
}
