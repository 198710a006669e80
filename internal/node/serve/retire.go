package serve

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
)

// retirement keeps the names that left the layout until nobody needs their
// routes. First containerd must not be sent here for them any more, which node
// says; then pulls under way must end, which are many requests each; then the
// route goes. The keeper's lock covers everything but requests, which never wait
// for the disk.
type retirement struct {
	state handoff.StateDir
	route func([]layout.Name)
	log   *slog.Logger
	quiet time.Duration
	now   func() time.Time

	list         []layout.Name
	acknowledged bool

	mu      sync.Mutex
	last    map[layout.Name]time.Time // when a request for the name began or ended last
	lastAny time.Time                 // the same, of all requests
	open    map[request]int           // requests under way; layers can take minutes
}

// request is what is counted of a request.
type request struct{ host, repository string }

func newRetirement(folder handoff.StateDir, route func([]layout.Name), log *slog.Logger) *retirement {
	return &retirement{state: folder, route: route, log: log, quiet: DefaultQuiet, now: time.Now, last: map[layout.Name]time.Time{}, open: map[request]int{}}
}

// restore continues after a restart: retired names are routed until node has
// acknowledged again.
func (r *retirement) restore(l layout.Layout) error {
	names, err := r.state.Retired()
	if err != nil {
		return err
	}
	r.keep(without(names, l))
	if len(r.list) > 0 {
		r.route(r.names())
	}
	return nil
}

// add saves the names that are not in the next layout. Names that came back are
// not retired any more.
func (r *retirement) add(gone []layout.Name, next layout.Layout) error {
	list := without(slices.Concat(r.list, gone), next)
	slices.SortFunc(list, layout.Name.Compare)
	list = slices.Compact(list)
	if !slices.Equal(list, r.list) {
		if err := r.state.SaveRetired(list); err != nil {
			return err
		}
	}
	r.acknowledged = false
	r.keep(list)
	return nil
}

// without are the names that the layout has no route for.
func without(names []layout.Name, l layout.Layout) []layout.Name {
	return slices.DeleteFunc(names, func(n layout.Name) bool {
		_, there := l.Route(n)
		return there
	})
}

func (r *retirement) keep(list []layout.Name) {
	r.list = list
	r.mu.Lock()
	defer r.mu.Unlock()
	last := map[layout.Name]time.Time{}
	for _, n := range list {
		last[n] = r.last[n]
	}
	r.last = last
}

func (r *retirement) names() []layout.Name { return slices.Clone(r.list) }

// acknowledge records that containerd is not sent here any more: only pulls that
// began before may still come.
func (r *retirement) acknowledge() {
	if r.acknowledged || len(r.list) == 0 {
		return
	}
	r.acknowledged = true
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.list {
		r.last[n] = r.now()
	}
}

// use records that a request begins; the result records that it ends.
func (r *retirement) use(host, repository string) (end func()) {
	q := request{host, repository}
	r.count(q, 1)
	return func() { r.count(q, -1) }
}

// count changes the number of requests under way.
func (r *retirement) count(q request, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[q] += by; r.open[q] == 0 {
		delete(r.open, q)
	}
	r.lastAny = r.now()
	for n := range r.last {
		if n.Holds(q.host, q.repository) {
			r.last[n] = r.lastAny
		}
	}
}

// sweep drops the routes that had no request during the quiet time.
func (r *retirement) sweep() {
	if !r.acknowledged || len(r.list) == 0 {
		return
	}
	stay := slices.DeleteFunc(slices.Clone(r.list), r.idle)
	if len(stay) == len(r.list) {
		return
	}
	if err := r.state.SaveRetired(stay); err != nil {
		r.log.Warn("names on their way out stay", "err", err)
		return
	}
	r.log.Info("routes of removed names are gone", "gone", len(r.list)-len(stay))
	r.keep(stay)
	r.route(r.names())
}

func (r *retirement) idle(n layout.Name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for q := range r.open {
		if n.Holds(q.host, q.repository) {
			return false
		}
	}
	return r.now().Sub(r.last[n]) >= r.quiet
}

// quietSince reports whether there was no request at all since that time, and for
// the quiet time at least.
func (r *retirement) quietSince(since time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lastAny.After(since) {
		since = r.lastAny
	}
	return len(r.open) == 0 && r.now().Sub(since) >= r.quiet
}

// forget drops every name: nothing on the node uses them any more.
func (r *retirement) forget() {
	r.acknowledged = false
	r.keep(nil)
}
