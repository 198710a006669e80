package switchover

import (
	"slices"

	"github.com/d8-registry/registry/internal/upstream"
)

// What the state holds in histories about its size, in units of a password and its
// user. A registry's CA, which is stored once, is many of them. Texts have room as long
// as the state is not nearly full. As in package state, but easier to count.
const (
	simCA    = 4
	simFull  = 2*simCA + 4
	simTexts = 4
)

// full is the largest size of a state. What a mode adds for the in-cluster proxy has
// room.
func (s *sim) full() int {
	if s.p.modes[Direct].proxyLayout != nil {
		return simFull + simCA + 1
	}
	return simFull
}

// sizeOf is the size of a state without its texts.
func sizeOf(s State) int {
	ups := slices.Concat(s.Desired.Layout.Upstreams(), s.Desired.ProxyLayout.Upstreams(), s.Desired.Bootstrap)
	for _, t := range slices.Concat([]Target{s.Active, s.Target, s.Desired.Registry}, s.Desired.PullSecrets) {
		ups = append(ups, t.Upstream)
	}
	ups = including(nil, slices.DeleteFunc(ups, upstream.Upstream.IsZero)...)
	hosts := map[string]bool{}
	for _, u := range ups {
		hosts[u.Host] = true
	}
	return simCA*len(hosts) + len(ups)
}

// refuseWhatCannotFit is what the controller makes of a wish, before it is followed.
func (s *sim) refuseWhatCannotFit(w *Observed) {
	if s.focus != onSize || s.t.noSizes {
		return
	}
	grown, more := s.p.Grown(s.stored, *w)
	if !more || sizeOf(grown) <= s.full() {
		return
	}
	if grown.Target.Upstream == w.Installation {
		w.Installation = upstream.Upstream{}
	}
	w.Spec = Spec{Problem: "it does not fit"}
}

// deletesWhatCannotBe: an older copy of the state and what is published may not fit
// together. The operator, who put it there, deletes it: then it is made from what is
// published.
func (s *sim) deletesWhatCannotBe() {
	if s.refused && s.copied && s.found {
		s.stored, s.refused, s.copied = State{}, false, false
		s.newProcess()
		s.logf("USER: deletes the state")
	}
}

// fits reports whether the API server takes a state, if need be without its texts.
func (s *sim) fits(next *State) bool {
	size := sizeOf(*next)
	if s.focus != onSize || size <= s.full()-simTexts {
		return true
	}
	if size <= s.full() && !s.t.fullTexts {
		next.Conditions = slices.Clone(next.Conditions)
		for i := range next.Conditions {
			next.Conditions[i].Message = ""
		}
		s.cut = true
		return true
	}
	s.refused = true
	s.logf("controller: the state of size %d is refused", size)
	return false
}
