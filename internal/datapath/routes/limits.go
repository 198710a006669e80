package routes

import (
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
)

const (
	// However long a registry says that it wants to wait, one request asks as often as
	// this: it may lie. A limit of the rate is believed for longer than a server that is
	// not ready yet.
	limitedPace = 30 * time.Second
	failingPace = 5 * time.Second
	// firstLimit is how long a limit of the rate lasts that does not say; it doubles while
	// the registry repeats it.
	firstLimit = time.Second
	// mostLimits bounds what is remembered of one upstream.
	mostLimits = 256
)

// Limits remembers for what an upstream asked us to wait, so that not each client asks for
// it again meanwhile. When that may be over, one request finds out for all.
type Limits struct {
	mu     sync.Mutex
	closed map[limitKey]*closing
}

// limitKey is what was limited, and nothing more: registries count kinds of requests by
// themselves, and one that stands before others passes on the limits of one of these.
type limitKey struct{ method, kind, host, repository, reference string }

// keysOf are what may stand in a pull's way: a limit of the rate, and that the server is
// not ready for this very object.
func keysOf(method string, p oci.Pull) (rate, object limitKey) {
	rate = limitKey{method: method, kind: string(p.Kind), host: p.Host, repository: p.Repository}
	object = rate
	object.reference = p.Reference
	return rate, object
}

// Limited is what an upstream said when it asked us to wait.
type Limited struct {
	Outcome judge.Outcome
	Reason  string
	Wait    time.Duration // as it said; 0 if it did not
	at      time.Time
}

// Until is when it wants to be asked again.
func (l Limited) Until() time.Time { return l.at.Add(max(l.Wait, firstLimit)) }

type closing struct {
	said  Limited
	wait  time.Duration // till one request asks
	probe chan struct{} // of the one that does; nil while nobody does
}

// Turn is how a pull may go on: it asks, if it is not Limited.
type Turn struct {
	Limited *Limited
	Open    time.Time       // when one request asks
	Probe   <-chan struct{} // closed when the one that asks is through; nil if nobody does
	mine    chan struct{}
}

// Ask says whether an upstream may be asked for a pull. The pull that finds out for all
// others ends with Through.
func (l *Limits) Ask(now time.Time, method string, p oci.Pull) Turn {
	l.mu.Lock()
	defer l.mu.Unlock()
	closed := l.of(method, p)
	for _, c := range closed {
		if open := c.said.at.Add(c.wait); now.Before(open) || c.probe != nil {
			said := c.said
			return Turn{Limited: &said, Open: open, Probe: c.probe}
		}
	}
	if len(closed) == 0 {
		return Turn{}
	}
	mine := make(chan struct{})
	for _, c := range closed {
		c.probe = mine
	}
	return Turn{mine: mine}
}

// Closed reports whether a pull would have to wait. It is nobody's turn by that.
func (l *Limits) Closed(now time.Time, method string, p oci.Pull) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.of(method, p) {
		if now.Before(c.said.at.Add(c.wait)) || c.probe != nil {
			return true
		}
	}
	return false
}

// of is all that stands in a pull's way.
func (l *Limits) of(method string, p oci.Pull) (closed []*closing) {
	if len(l.closed) == 0 {
		return nil
	}
	rate, object := keysOf(method, p)
	for _, key := range []limitKey{rate, object} {
		if c := l.closed[key]; c != nil {
			closed = append(closed, c)
		}
	}
	return closed
}

// Through ends a turn. Who waited for it asks anew.
func (l *Limits) Through(t Turn, method string, p oci.Pull) {
	if t.mine == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.of(method, p) {
		if c.probe == t.mine {
			c.probe = nil
		}
	}
	close(t.mine)
}

// Note is what an upstream said to a pull that was sent at a time. That it wants us to
// wait closes; all else that it says opens, but to what was sent before it closed. news
// says that it did; until is when the last of what is closed wants to be asked again, zero if nothing is.
func (l *Limits) Note(sent, now time.Time, method string, p oci.Pull, said Limited) (until time.Time, news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rate, object := keysOf(method, p)
	pace := limitedPace
	switch {
	case said.Outcome == judge.RateLimited:
	case said.Outcome == judge.ServerError && said.Wait > 0:
		rate, pace = object, failingPace
	case said.Outcome == judge.ServerError, !said.Outcome.Reached():
		return time.Time{}, false
	default:
		for _, key := range []limitKey{rate, object} {
			if c := l.closed[key]; c != nil && c.said.at.Before(sent) {
				delete(l.closed, key)
				news = true
			}
		}
		return l.last(now), news
	}
	said.at = now
	next := &closing{said: said, wait: min(said.Wait, pace)}
	old := l.closed[rate]
	switch {
	case old != nil:
		next.probe = old.probe
	case len(l.closed) >= mostLimits:
		l.closed = nil
	}
	if next.wait == 0 {
		next.wait = firstLimit
		if old != nil && old.said.at.Before(sent) {
			next.wait = min(2*old.wait, pace)
		}
	}
	if l.closed == nil {
		l.closed = map[limitKey]*closing{}
	}
	l.closed[rate] = next
	return said.Until(), true
}

// last is when the last of what is closed wants to be asked again; zero if nothing is.
func (l *Limits) last(now time.Time) (until time.Time) {
	for _, c := range l.closed {
		if still := c.said.Until(); still.After(now) && still.After(until) {
			until = still
		}
	}
	return until
}
