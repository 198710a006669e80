package stores

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// settles is how long something must be so until users are told of it after a switch. A store
// that is started anew is no news, one that comes and goes is one piece of news, and figures
// that move are told once in that time: each text is a write of the whole state.
const settles = time.Minute

// told is what users were told of stores since the switch ended.
type told struct {
	absent       map[types.UID]absence // nil before the first look
	cached, used int
	at           time.Time // of the figures
}

// absence is of a store that does not serve, or has not for long enough. The zero value is of
// one that serves.
type absence struct {
	since time.Time // without a break that counts
	back  time.Time // it serves again since then
	why   string
	told  bool
}

// Forget begins anew: while a switch is under way conditions say how stores are now.
func (k *Keeper) Forget() { k.told = told{} }

// Settle says of stores which of them are gone, and makes what it says steady. It returns in how
// long that may change although nothing happens; 0 for never.
func (k *Keeper) Settle(there *cluster.Snapshot, w Wish, s *switchover.Stores, now time.Time) time.Duration {
	var next time.Duration
	in := func(left time.Duration) {
		if left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	still := map[types.UID]absence{}
	for _, c := range w.candidates(there) {
		a := k.told.absent[c.node.UID]
		a.told = a.told || k.told.absent == nil // nobody saw it serve: it may have been gone for long
		a, left := a.after(w.absent(c), w.Silent[c.node.Name], now)
		if a.told {
			s.Gone = append(s.Gone, c.node.Name+": "+a.why+", since "+a.since.UTC().Format(time.RFC3339))
		}
		in(left)
		still[c.node.UID] = a
	}
	k.told.absent = still
	if t := &k.told; t.at.IsZero() || now.Sub(t.at) >= settles {
		if t.cached != s.Cached || t.used != s.Used {
			t.cached, t.used, t.at = s.Cached, s.Used, now
		}
	} else if t.cached != s.Cached || t.used != s.Used {
		in(t.at.Add(settles).Sub(now))
	}
	s.Cached, s.Used = k.told.cached, k.told.used
	return next
}

// absent is why a store counts as gone; empty for one that serves. What an agent said last of its
// store is not known to be so any more when the agent is silent.
func (w Wish) absent(c candidate) string {
	_, silent := w.Silent[c.node.Name]
	_, serves := c.serves()
	switch {
	case c.away != "":
		return c.away
	case silent:
		return "its agent is silent"
	case !serves, c.endpoint(w.Pod.Port) == "":
		return "it does not serve"
	}
	return ""
}

// after is what becomes of it with what is seen now, and in how long it changes by itself.
// Before is since when it was so before anybody could see it; zero if that is not known.
func (a absence) after(why string, before, now time.Time) (absence, time.Duration) {
	switch {
	case why == "" && a.since.IsZero():
		return absence{}, 0
	case why == "":
		if a.back.IsZero() {
			a.back = now
		}
		if left := a.back.Add(settles).Sub(now); left > 0 {
			return a, left
		}
		return absence{}, 0
	case a.since.IsZero():
		if a.since = now; !before.IsZero() && before.Before(now) {
			a.since = before
		}
	}
	a.why, a.back = why, time.Time{}
	left := a.since.Add(settles).Sub(now)
	if a.told = a.told || left <= 0; a.told {
		return a, 0
	}
	return a, left
}
