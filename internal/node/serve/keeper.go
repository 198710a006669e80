package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/upstream"
)

// keeper owns the layout that is served. It takes a new one only if that is valid
// and has a higher generation. Otherwise nothing changes: a node with an old
// layout can pull, a node without a layout cannot.
type keeper struct {
	state   handoff.StateDir
	table   *routes.Table
	retired *retirement
	log     *slog.Logger

	mu       sync.Mutex // held while the disk is written
	current  layout.Layout
	version  string      // of current
	absent   bool        // the API server was asked, and has no layout
	toForget forgetOrder // to forget the layout

	public  sync.Mutex // held only for a moment
	status  handoff.Status
	changed chan struct{} // closed, and replaced, when status changes
}

// forgetOrder is the order to forget the layout of a generation.
type forgetOrder struct {
	generation int64
	at         time.Time
}

// newKeeper starts from what is on disk. A file that cannot be read counts as
// none: the API server may still have the layout.
func newKeeper(folder handoff.StateDir, table *routes.Table, log *slog.Logger) *keeper {
	k := &keeper{state: folder, table: table, log: log, changed: make(chan struct{})}
	k.retired = newRetirement(folder, k.route, log)
	k.status.Revision = 1
	l, err := folder.Layout()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k
	case err == nil:
		err = k.table.Swap(l)
	}
	if err != nil {
		k.status.Problem = err.Error()
		log.Error("saved layout cannot be used", "err", err)
		return k
	}
	k.current, k.version = l, l.Version()
	k.status.Generation, k.status.Version = l.Generation, k.version
	if err := k.retired.restore(l); err != nil {
		log.Warn("names on their way out were forgotten", "err", err)
	}
	log.Info("serving the saved layout", "generation", l.Generation)
	return k
}

// offer hands over what is published; found is false if nothing is. An error
// means that the layout could not be saved and should be offered again.
func (k *keeper) offer(published []byte, found bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.absent = !found
	if !found || len(published) == 0 {
		k.note(false, k.missing(found))
		return nil
	}
	l, err := layout.Decode(published)
	if err != nil {
		k.note(false, "the published layout is kept out: "+err.Error())
		return nil
	}
	switch {
	case l.Generation < k.current.Generation:
		k.note(true, fmt.Sprintf("the published layout has generation %d, lower than %d, which is kept", l.Generation, k.current.Generation))
		return nil
	case l.Generation == k.current.Generation && l.SameContent(k.current):
		return k.keepAs(l, published)
	case l.Generation == k.current.Generation:
		k.note(true, fmt.Sprintf("generation %d was published again with other content, which is ignored", l.Generation))
		return nil
	}
	return k.take(l, published)
}

// keepAs has on disk what is published, also if only its schema changed: it is an older
// one before an older agent comes, which reads nothing else. It may have other
// credentials that are provided: pulls go on with these.
func (k *keeper) keepAs(l layout.Layout, published []byte) error {
	if k.state.HasLayout(published) {
		k.note(false, "")
		return nil
	}
	if err := k.state.SaveLayout(published); err != nil {
		k.note(false, err.Error())
		return err
	}
	k.current = l
	k.route(k.retired.names())
	k.note(false, "")
	return nil
}

// missing is the problem that there is no layout. It is none on a node that never
// had one.
func (k *keeper) missing(found bool) string {
	switch {
	case k.current.IsZero():
		return ""
	case found:
		return "the published layout is empty; the last good one is kept"
	default:
		return "there is no published layout; the last good one is kept"
	}
}

// take serves a higher generation. It is saved first, so that what was served
// last is on disk after a reboot at any moment.
func (k *keeper) take(l layout.Layout, published []byte) error {
	trial := routes.NewTable(nil)
	trial.AskStores("trial")
	defer trial.Close()
	if err := trial.Swap(l); err != nil {
		k.note(false, "the published layout is kept out: "+err.Error())
		return nil
	}
	gone := without(k.current.Names(), l)
	// The list of names that are gone must be on disk before the layout: after a
	// reboot in between, hosts.toml still sends pulls of these names here.
	err := k.retired.add(gone, l)
	if err == nil {
		err = k.state.SaveLayout(published)
	}
	if err != nil {
		k.note(false, err.Error())
		return err
	}
	k.current, k.version, k.toForget = l, l.Version(), forgetOrder{}
	k.route(k.retired.names())
	k.note(false, "")
	k.log.Info("serving a new layout", "generation", l.Generation, "mode", l.Mode, "names", len(l.Routes), "target", l.Target.String())
	return nil
}

// route makes the table of the current layout and of retired names. These are
// served by the target only: the credentials of the old registry are gone.
func (k *keeper) route(retired []layout.Name) {
	l := k.current
	l.Routes = slices.Clone(l.Routes)
	// Some may still be in the layout: the one without them could not be saved.
	for _, n := range without(retired, l) {
		l.Routes = append(l.Routes, layout.Route{Name: n, Upstreams: []upstream.Upstream{l.Target}})
	}
	if err := k.table.Swap(l); err != nil {
		k.log.Error("routes stay as they were", "err", err) // take has tried it
	}
}

// note publishes the status if it changed, and wakes the callers that wait for
// that.
func (k *keeper) note(ahead bool, problem string) {
	next := handoff.Status{
		Generation: k.current.Generation, Version: k.version,
		Ahead: ahead, Absent: k.absent, Problem: problem,
		TargetFails: k.table.Failing(k.current.Target),
	}
	k.public.Lock()
	defer k.public.Unlock()
	next.Revision = k.status.Revision
	if next == k.status {
		return
	}
	if problem != "" && problem != k.status.Problem {
		k.log.Warn("published layout not taken", "reason", problem)
	}
	next.Revision++
	k.status = next
	close(k.changed)
	k.changed = make(chan struct{})
}

// lookAtTarget publishes whether pulls from the target fail.
func (k *keeper) lookAtTarget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, _ := k.snapshot()
	k.note(now.Ahead, now.Problem)
}

// snapshot is the present status, and a channel that closes when it changes.
func (k *keeper) snapshot() (handoff.Status, <-chan struct{}) {
	k.public.Lock()
	defer k.public.Unlock()
	return k.status, k.changed
}

// applied says that containerd no longer comes here for names that are not in the
// generation.
func (k *keeper) applied(generation int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if generation == k.current.Generation {
		k.retired.acknowledge()
	}
}

// forget says that containerd no longer comes here at all, and that the layout is
// to be forgotten. A layout that is published is not.
func (k *keeper) forget(generation int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.absent && generation == k.current.Generation && k.toForget.generation != generation {
		k.toForget = forgetOrder{generation: generation, at: k.retired.now()}
	}
}

// sweep drops the routes of names that may go, see retirement, and the whole
// layout if node asked for that.
func (k *keeper) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retired.sweep()
	if k.toForget.generation == 0 || !k.absent || !k.retired.quietSince(k.toForget.at) {
		return
	}
	if err := k.state.Forget(); err != nil {
		k.log.Warn("the layout stays", "err", err)
		return
	}
	if err := k.table.Swap(layout.Layout{}); err != nil {
		k.log.Error("routes stay as they were", "err", err) // an empty table has nothing to refuse
	}
	k.log.Info("back to before the first layout", "generation", k.current.Generation)
	k.current, k.version, k.toForget = layout.Layout{}, "", forgetOrder{}
	k.retired.forget()
	k.note(false, "")
}
