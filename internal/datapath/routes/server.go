package routes

import (
	"slices"
	"sync/atomic"
)

// Server is what is known of who answers for a target. It outlives a renewal of the
// credentials: whether somebody answers, and with which bytes, is no matter of ours. What
// is known of the credentials, tokens and refusals, stays with the Transport.
type Server struct {
	Health  Health
	Streak  Streak
	Corrupt Corrupt

	renewed atomic.Pointer[Target] // who is asked now, if that is another target
}

// renew has the targets that go hand on what they know to those that come in their place,
// the same but for their credentials.
func (t *Table) renew(used map[string]*Target) {
	next := map[string]*Target{}
	fresh := map[*Target]bool{}
	for id, tg := range used {
		fresh[tg] = t.targets[id] == nil
		if next[tg.lasting] == nil || fresh[tg] {
			next[tg.lasting] = tg
		}
	}
	for id, before := range t.targets {
		after := next[before.lasting]
		if used[id] != nil || after == nil {
			continue
		}
		if fresh[after] {
			after.Server = before.Server
			after.Streak.renewed()
			fresh[after] = false // of several that go one is enough
		}
		before.renewed.Store(after)
	}
}

// Current is the route as it is asked now: credentials may have been renewed since it was
// found, and those of then are worth nothing any more.
func (r Route) Current() Route {
	all := r.Targets
	r.Targets = make([]*Target, 0, len(all))
	for _, tg := range all {
		for after := tg.renewed.Load(); after != nil && after != tg; after = tg.renewed.Load() {
			tg = after
		}
		if !slices.Contains(r.Targets, tg) {
			r.Targets = append(r.Targets, tg)
		}
	}
	return r
}
