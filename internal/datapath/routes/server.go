package routes

import (
	"maps"
	"slices"
)

// Server is what is known of who answers for a target. It outlives a renewal of the
// credentials: whether somebody answers, and with which bytes, is no matter of ours. What
// is known of the credentials, tokens and refusals, stays with the Transport.
type Server struct {
	Health  Health
	Streak  Streak
	Corrupt Corrupt
}

// renew has the targets that go hand on what they know to those that come in their place,
// the same but for their credentials. Of several that come the first takes it over, and
// requests in flight may ask them all: what one account may not read another may.
func (t *Table) renew(used map[string]*Target) {
	next := map[string][]*Target{}
	fresh := map[*Target]bool{}
	for _, id := range slices.Sorted(maps.Keys(used)) {
		tg := used[id]
		fresh[tg] = t.targets[id] == nil
		next[tg.lasting] = append(next[tg.lasting], tg)
	}
	for id, before := range t.targets {
		after := next[before.lasting]
		if used[id] != nil || len(after) == 0 {
			continue
		}
		if i := slices.IndexFunc(after, func(tg *Target) bool { return fresh[tg] }); i >= 0 {
			after[i].Server = before.Server
			after[i].Streak.renewed()
			fresh[after[i]] = false // of several that go one is enough
		}
		before.renewed.Store(&after)
	}
}

// Current is the route as it is asked now: credentials may have been renewed since it was
// found, and those of then are worth nothing any more.
func (r Route) Current() Route {
	all := r.Targets
	r.Targets = make([]*Target, 0, len(all))
	var add func(*Target)
	add = func(tg *Target) {
		if after := tg.renewed.Load(); after != nil {
			for _, a := range *after {
				add(a)
			}
		} else if !slices.Contains(r.Targets, tg) {
			r.Targets = append(r.Targets, tg)
		}
	}
	for _, tg := range all {
		add(tg)
	}
	return r
}
