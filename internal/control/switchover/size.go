package switchover

import (
	"fmt"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/upstream"
)

const (
	// MostTexts is what the conditions of one plan say at most, in bytes: seven steps
	// and Ready.
	MostTexts = 8 * mostMessage
	// mostCorrections is how many times the credentials of a registry that is new may be
	// corrected before its switch ends: until then all of them stay.
	mostCorrections = 2
)

// Grown is the state at its largest, texts aside, if what the user asks for now were
// followed: with the union of that switch, and with room for corrections of the
// credentials of a registry that is new. It reports false for what adds no upstream:
// the way back is open whatever its size.
func (p Protocol) Grown(s State, seen Observed) (State, bool) {
	e := p.evaluate(s, seen)
	if mode := seen.Spec.Mode; mode != "" && !p.knows(mode) || e.unreadable() != "" || !e.begin() {
		return s, false
	}
	known := including(e.s.Desired.Layout.Upstreams(), e.s.Active.Upstream, e.s.Target.Upstream)
	e.chooseTarget()
	wish := e.s.Target
	e.s.Desired.Proxy = true // it will be there, and its layout may hold more
	if e.modes[wish.Mode].store {
		e.startStores()
	}
	if slices.Contains(known, wish.Upstream) {
		return s, false
	}
	e.widen()
	if slices.ContainsFunc(known, func(u upstream.Upstream) bool { return u.Host == wish.Upstream.Host }) {
		return e.s, true // a correction
	}
	for i := range mostCorrections {
		corrected := wish
		corrected.Upstream.Credentials, corrected.Upstream.Provided = likely(wish.Upstream.Credentials, i), false
		e.setTarget(corrected)
		e.widen()
	}
	e.setTarget(wish)
	return e.s, true
}

// likely are other credentials of the same length, or of a usual one.
func likely(c upstream.Credentials, i int) upstream.Credentials {
	const usual = 64
	word := fmt.Sprint(i)
	return upstream.Credentials{
		Username: word + strings.Repeat("u", max(len(c.Username), usual)-len(word)),
		Password: word + strings.Repeat("p", max(len(c.Password), usual)-len(word)),
	}
}

// widen adds to what is wanted all that the target needs beside what is there: pull
// secrets, and the union. The pull secrets come first: nothing may be re-pointed
// without them.
func (e *evaluation) widen() {
	want, target := &e.s.Desired, e.s.Target
	want.PullSecrets = including([]Target{target}, append(slices.Clone(want.PullSecrets), e.s.Active)...)
	want.Bootstrap = including([]upstream.Upstream{target.Upstream}, want.Bootstrap...)
	if !e.untouched() {
		e.publish(e.rules.union(e))
		e.s.Bases = withNames(e.s.Bases, want.Layout.Names()...)
	}
}
