package routes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Metrics are told what becomes of upstreams.
type Metrics interface {
	// Token is one token that an upstream's token server was asked for; err is why there
	// is none.
	Token(host string, err error)
	// Forget is for hosts that are not routed to any more.
	Forget(host string)
}

// Table is what the data path routes by: a layout, with its stores in front where they
// are asked, and, on a node, the mirrors that users set up there. Requests read an immutable snapshot; Swap and
// SwapUsers replace it. What is known about an upstream (connections, tokens,
// health) is kept by its ID and survives; of its server also with other credentials.
type Table struct {
	metrics  Metrics
	asking   string // see AskStores
	snapshot atomic.Pointer[snapshot]

	mu      sync.Mutex // one writer at a time
	layout  layout.Layout
	users   []upstream.UserHost
	targets map[string]*Target
}

type snapshot struct {
	generation int64
	hosts      map[string][]Route // longest path first
	users      map[string]Route   // of a whole host
}

// Route is one name with its upstreams, in the order in which they are tried.
type Route struct {
	Name    layout.Name
	Targets []*Target
}

// NewTable returns a table without routes. metrics may be nil.
func NewTable(metrics Metrics) *Table {
	t := &Table{metrics: metrics, targets: map[string]*Target{}}
	t.snapshot.Store(&snapshot{})
	return t
}

// Swap routes new requests by the layout; requests in flight go on by the old
// one. An error (a route without upstreams, a CA that is no PEM) changes
// nothing. Whether the layout is newer is the caller's to know.
func (t *Table) Swap(l layout.Layout) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.build(l, t.users); err != nil {
		return err
	}
	t.layout = l
	return nil
}

// SwapUsers routes new requests by what users of the node set up, beside the
// layout. Where both name a host, the users' mirrors are asked first, and the
// layout's registries for what those do not serve. An error changes nothing.
func (t *Table) SwapUsers(users []upstream.UserHost) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.build(t.layout, users); err != nil {
		return err
	}
	t.users = users
	return nil
}

// build replaces the snapshot.
func (t *Table) build(l layout.Layout, users []upstream.UserHost) error {
	next := &snapshot{generation: l.Generation, hosts: map[string][]Route{}, users: map[string]Route{}}
	used := pool{known: t.targets, used: map[string]*Target{}, metrics: t.metrics}
	for _, u := range users {
		r, err := used.user(u)
		if err != nil {
			return fmt.Errorf("the user's host %s: %w", u.Name, err)
		}
		if len(r.Targets) > 0 {
			next.users[u.Name] = r
		}
	}
	stores, err := used.stores(l.Stores, t.asking)
	if err != nil {
		return err
	}
	for _, r := range l.Routes {
		found, err := used.route(r)
		if err != nil {
			return fmt.Errorf("route %s: %w", r.Name, err)
		}
		found.Targets = slices.Concat(stores, found.Targets)
		host := strings.ToLower(r.Name.Host)
		if user, ok := next.users[host]; ok && host != layout.Fixed().Host {
			found.Targets = slices.Concat(user.Targets, found.Targets)
		}
		next.hosts[host] = append(next.hosts[host], found)
	}
	for _, routes := range next.hosts {
		slices.SortStableFunc(routes, func(a, b Route) int { return len(b.Name.Path) - len(a.Name.Path) })
	}
	t.renew(used.used)
	t.snapshot.Store(next)
	t.retire(used.used)
	return nil
}

// pool hands out targets: the ones that are known, and new ones.
type pool struct {
	known, used map[string]*Target
	metrics     Metrics // may be nil
}

func (p pool) route(r layout.Route) (Route, error) {
	if len(r.Upstreams) == 0 {
		return Route{}, fmt.Errorf("no upstream")
	}
	found := Route{Name: r.Name}
	for _, u := range r.Upstreams {
		tg, err := p.get(u.ID(), func() (*Target, error) { return newTarget(u, p.metrics) })
		if err != nil {
			return Route{}, fmt.Errorf("upstream %s: %w", u, err)
		}
		found.Targets = append(found.Targets, tg)
	}
	return found, nil
}

func (p pool) user(u upstream.UserHost) (Route, error) {
	found := Route{Name: layout.Name{Host: u.Name}}
	for _, m := range u.Mirrors {
		tg, err := p.get(m.ID(), func() (*Target, error) { return newMirrorTarget(m, p.metrics) })
		if err != nil {
			return Route{}, fmt.Errorf("mirror %s: %w", m, err)
		}
		if !slices.Contains(found.Targets, tg) {
			found.Targets = append(found.Targets, tg)
		}
	}
	return found, nil
}

func (p pool) get(id string, create func() (*Target, error)) (*Target, error) {
	if tg, ok := p.used[id]; ok {
		return tg, nil
	}
	tg, ok := p.known[id]
	if !ok {
		var err error
		if tg, err = create(); err != nil {
			return nil, err
		}
	}
	p.used[id] = tg
	return tg, nil
}

// retire drops the targets that are not used any more. Their requests in flight
// end normally; connections close as they become idle.
func (t *Table) retire(used map[string]*Target) {
	hosts := map[string]bool{}
	for tg := range maps.Values(used) {
		hosts[tg.upstream.Host] = true
	}
	for id, tg := range t.targets {
		if used[id] == nil {
			tg.Transport.CloseIdleConnections()
			if t.metrics != nil && !hosts[tg.upstream.Host] {
				t.metrics.Forget(tg.upstream.Host)
			}
		}
	}
	t.targets = used
}

// Generation is that of the layout that new requests are routed by; 0 before
// the first.
func (t *Table) Generation() int64 { return t.snapshot.Load().generation }

// Close drops every route and closes idle connections.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.snapshot.Store(&snapshot{})
	t.retire(map[string]*Target{})
}

// Match is the routed name that a pull falls under, by the host and repository
// that Parse found.
func (t *Table) Match(host, repository string) (layout.Name, bool) {
	r, ok := t.Lookup(host, repository)
	return r.Name, ok
}

// Lookup finds the route of a repository: the longest path that is a prefix of
// it on a path boundary, then what users set up for the host, or for every
// host that has no directory of its own: those of the layout have ours.
func (t *Table) Lookup(host, repository string) (Route, bool) {
	now := t.snapshot.Load()
	for _, r := range now.hosts[host] {
		if r.Name.Holds(host, repository) {
			return r, true
		}
	}
	if host == layout.Fixed().Host {
		return Route{}, false
	}
	if r, ok := now.users[host]; ok {
		return r, true
	}
	if len(now.hosts[host]) > 0 {
		return Route{}, false
	}
	r, ok := now.users[upstream.DefaultHost]
	return r, ok
}
