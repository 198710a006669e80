package proxy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/d8-registry/registry/internal/layout"
)

// Table is what the data path routes by. Requests read an immutable snapshot;
// Swap replaces it. What is known of an upstream (connections, tokens, whether
// it is alive) is kept by upstream.Upstream.ID and survives a Swap.
type Table struct {
	metrics  *Metrics
	snapshot atomic.Pointer[snapshot]

	mu      sync.Mutex // one writer at a time
	targets map[string]*target
}

type snapshot struct {
	generation int64
	hosts      map[string][]route // longest path first
}

// route is one name with its upstreams, in the order in which they are tried.
type route struct {
	name    layout.Name
	targets []*target
}

// NewTable returns a table without routes. metrics may be nil.
func NewTable(metrics *Metrics) *Table {
	if metrics == nil {
		metrics = newMetrics()
	}
	t := &Table{metrics: metrics, targets: map[string]*target{}}
	t.snapshot.Store(&snapshot{})
	return t
}

// Swap routes new requests by the layout; requests in flight go on by the old
// one. An error (a route without upstreams, a CA that is no PEM) changes
// nothing. Whether the layout is newer is the caller's to know.
func (t *Table) Swap(l layout.Layout) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := &snapshot{generation: l.Generation, hosts: map[string][]route{}}
	used := map[string]*target{}
	for _, r := range l.Routes {
		if len(r.Upstreams) == 0 {
			return fmt.Errorf("route %s: no upstream", r.Name)
		}
		found := route{name: r.Name}
		for _, u := range r.Upstreams {
			id := u.ID()
			if used[id] == nil {
				tg, err := t.target(id, u)
				if err != nil {
					return fmt.Errorf("route %s: upstream %s: %w", r.Name, u, err)
				}
				used[id] = tg
			}
			found.targets = append(found.targets, used[id])
		}
		host := strings.ToLower(r.Name.Host)
		next.hosts[host] = append(next.hosts[host], found)
	}
	for _, routes := range next.hosts {
		slices.SortStableFunc(routes, func(a, b route) int { return len(b.name.Path) - len(a.name.Path) })
	}
	t.snapshot.Store(next)
	t.retire(used)
	return nil
}

// retire lets go of the targets that are not used any more. Their requests in
// flight end normally; connections close as they become idle.
func (t *Table) retire(used map[string]*target) {
	hosts := map[string]bool{}
	for _, tg := range used {
		hosts[tg.upstream.Host] = true
	}
	for id, tg := range t.targets {
		if used[id] == nil {
			tg.transport.CloseIdleConnections()
			if !hosts[tg.upstream.Host] {
				t.metrics.forget(tg.upstream.Host)
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
	t.retire(map[string]*target{})
}

// Match is the routed name that a pull falls under, by the host and repository
// that Parse found.
func (t *Table) Match(host, repository string) (layout.Name, bool) {
	r, ok := t.lookup(host, repository)
	return r.name, ok
}

// lookup finds the route of a repository: the longest path that is a prefix of
// it on a path boundary.
func (t *Table) lookup(host, repository string) (route, bool) {
	for _, r := range t.snapshot.Load().hosts[host] {
		if r.name.Holds(host, repository) {
			return r, true
		}
	}
	return route{}, false
}
