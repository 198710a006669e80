package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/upstream"
)

// keeper owns the layout that is served. It takes a new one only if that is
// surely better, and whatever is wrong with the published one changes nothing:
// a node that serves yesterday's layout pulls, a node without one does not.
type keeper struct {
	state   handoff.StateDir
	table   *proxy.Table
	retired *retirement
	log     *slog.Logger

	mu       sync.Mutex // held while the disk is written
	current  layout.Layout
	version  string      // of current
	absent   bool        // the API server was asked, and has no layout
	toForget forgetOrder // to forget the layout

	public  sync.Mutex // never held for longer than it takes to look
	status  handoff.Status
	changed chan struct{} // closed, and replaced, when status changes
}

// order is to forget the layout of a generation, given at a time.
type forgetOrder struct {
	generation int64
	at         time.Time
}

// newKeeper starts from what is on disk. An unreadable file is as good as none:
// the API server may still have the layout.
func newKeeper(folder handoff.StateDir, table *proxy.Table, log *slog.Logger) *keeper {
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

// offer is told what is published: the content, or that there is none. An error
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
		k.note(false, "")
		return nil
	case l.Generation == k.current.Generation:
		k.note(false, fmt.Sprintf("generation %d was published again with other content, which is ignored", l.Generation))
		return nil
	}
	return k.take(l, published)
}

// missing is no problem on a node that never had a layout.
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

// take moves on to a higher generation: disk first, so that a reboot at any
// moment finds what was served last.
func (k *keeper) take(l layout.Layout, published []byte) error {
	trial := proxy.NewTable(nil)
	defer trial.Close()
	if err := trial.Swap(l); err != nil {
		k.note(false, "the published layout is kept out: "+err.Error())
		return nil
	}
	gone := slices.DeleteFunc(k.current.Names(), func(n layout.Name) bool {
		_, kept := l.Route(n)
		return kept
	})
	// In this order: without the list of what left it, the next layout would
	// cut off names that hosts.toml still sends here.
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

// route makes the table that of the current layout and of the names on their
// way out. Those are served by the target alone: the credentials of the old
// registry are gone for good.
func (k *keeper) route(retired []layout.Name) {
	l := k.current
	l.Routes = slices.Clone(l.Routes)
	for _, n := range retired {
		if _, stays := l.Route(n); stays {
			continue // the layout without it could not be saved
		}
		l.Routes = append(l.Routes, layout.Route{Name: n, Upstreams: []upstream.Upstream{l.Target}})
	}
	if err := k.table.Swap(l); err != nil {
		k.log.Error("routes stay as they were", "err", err) // take has tried it
	}
}

// note publishes the status if it changed, and wakes who waits for that.
func (k *keeper) note(ahead bool, problem string) {
	next := handoff.Status{
		Generation: k.current.Generation, Version: k.version,
		Ahead: ahead, Absent: k.absent, Problem: problem,
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

// look is the present status, and a channel that closes when it changes.
func (k *keeper) snapshot() (handoff.Status, <-chan struct{}) {
	k.public.Lock()
	defer k.public.Unlock()
	return k.status, k.changed
}

// applied is told that containerd no longer comes here for names that are not
// in the generation.
func (k *keeper) applied(generation int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if generation == k.current.Generation {
		k.retired.acknowledge()
	}
}

// forget is told that containerd no longer comes here at all and that the node
// is to be as it was before the first layout. Only a layout that is published
// nowhere is forgotten.
func (k *keeper) forget(generation int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.absent && generation == k.current.Generation && k.toForget.generation != generation {
		k.toForget = forgetOrder{generation: generation, at: k.retired.now()}
	}
}

// sweep lets go of the names that may go now, see retirement, and of the whole
// layout if that is what node asked for.
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
