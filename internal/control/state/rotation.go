package state

import (
	"fmt"
	"maps"
	"slices"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/foreign"
)

// Rotation is how far the replacement of one thing is: of a user's password, or of
// the CA. The new one is accepted before anybody is given it, and the old one until
// nobody can have it any more, so that no pull fails in between.
type Rotation struct {
	// Of is the Secret that shows it, and that the operator annotates.
	Of string `json:"of"`
	// Asked is the last value of the annotation that was followed.
	Asked string `json:"asked,omitempty"`
	// Phase is empty when nothing is under way.
	Phase Phase `json:"phase,omitempty"`
	// Since is when this rotation began.
	Since time.Time `json:"since,omitzero"`
	// Quiet is since when nobody was seen using the old one; zero before everybody was
	// given the new one. Used is the use that was told of last, as it was told, and Uses
	// are the last ones by the UIDs of who told them, which alone may be compared:
	// clocks of nodes may be wrong.
	Quiet time.Time         `json:"quiet,omitzero"`
	Used  string            `json:"used,omitempty"`
	Uses  map[string]string `json:"uses,omitempty"`
	// Looked is how much of the time since Quiet controllers have looked, by clocks that
	// do not jump. That counts, and Quiet is for people: a clock that jumps forwards, or
	// that of the next leader, makes no day of a minute.
	Looked time.Duration `json:"looked,omitempty"`
}

// Phase is one step of a rotation. Users are first Accepting, then Given; the CA is
// first Given, then Signing.
type Phase string

// The phases.
const (
	Accepting Phase = "Accepting" // the proxies learn a new password
	Given     Phase = "Given"     // all are given the new one, the old one is still good
	Signing   Phase = "Signing"   // the proxies get a certificate of the new CA
)

// task is what a rotation asks for.
type task int

const (
	nothing task = iota
	makeNew      // make the new one, beside the old one
	useNew       // the new one takes the place of the old one, which stays good
	dropOld
)

// facts are what a rotation depends on.
type facts struct {
	now  time.Time
	idle time.Duration // how long the old one must have been unused
	// passed is what Looked grows by, if nothing happened.
	passed time.Duration
	// may is whether rotations go on: not during a switch, whose steps are waited for
	// one by one, and not without the in-cluster proxy or stores.
	may bool
	// asked is the value of the annotation; due is why it begins without one.
	asked string
	due   bool
	// useless is whether the old one is of no use to anybody: then nobody is waited for.
	useless bool
	// behind are Pods of the in-cluster proxy and stores that do not serve what is stored.
	behind []string
	// told is whether all pull secrets say what is stored, published the generation of
	// the present layout, if it does, else 0: that an older one did says nothing, for the
	// state may have been lost in between. Unreached are nodes without a generation.
	told      bool
	published int64
	unreached func(generation int64) []switchover.Node
	// uses are the last uses of the old one, as each Pod of the proxy and each store tells them.
	uses map[string]string
}

// next moves a rotation on. It is pure. The note says, for users, what it waits for.
func (r Rotation) next(f facts) (Rotation, task, string) {
	begins := f.asked != "" && f.asked != r.Asked || f.due
	if r.Phase == Given {
		r, f.passed = r.seeing(f) // also during a switch: a Pod that told of a use may be gone after it
	}
	switch {
	case r.Phase == "" && !begins:
		return r, nothing, ""
	case !f.may && !f.useless:
		return r, nothing, r.waits("until mode Direct or Proxy is Ready")
	}
	switch r.Phase {
	case Accepting:
		if len(f.behind) > 0 {
			return r, nothing, r.waits("for " + servers(f.behind))
		}
		r.Phase = Given
		return r, useNew, ""
	case Given:
		return r.given(f)
	case Signing:
		if len(f.behind) > 0 {
			return r, nothing, r.waits("for " + servers(f.behind))
		}
		return Rotation{Of: r.Of, Asked: r.Asked}, dropOld, ""
	default:
		r = Rotation{Of: r.Of, Asked: f.asked, Phase: Accepting, Since: f.now, Uses: f.uses}
		if r.ofCA() {
			r.Phase = Given
		}
		return r, makeNew, ""
	}
}

// given waits until nobody can have the old one only: not a node either that is away,
// and that nothing else waits for.
func (r Rotation) given(f facts) (Rotation, task, string) {
	if !f.useless {
		switch {
		case r.ofNodes() && f.published == 0:
			return r, nothing, r.waits("for the layout that gives the new one to nodes")
		case r.ofNodes() && len(f.unreached(f.published)) > 0:
			return r, nothing, r.waits("for " + nodes(f.unreached(f.published)))
		case !f.told:
			return r, nothing, r.waits("until all pull secrets have the new one")
		case r.Quiet.IsZero() && len(f.behind) > 0: // it would not tell of uses of the old one
			return r, nothing, r.waits("for " + servers(f.behind))
		case r.Quiet.IsZero():
			r.Quiet = f.now
		default:
			r.Looked += f.passed
		}
		if r.Looked < f.idle {
			return r, nothing, r.waits(r.untilQuiet(f))
		}
	}
	if r.ofCA() {
		r.Phase = Signing
		return r, useNew, ""
	}
	return Rotation{Of: r.Of, Asked: r.Asked}, dropOld, ""
}

// seeing notes the uses that the Pods of the proxy tell of, and says how much time has
// passed without one.
func (r Rotation) seeing(f facts) (Rotation, time.Duration) {
	for _, pod := range slices.Sorted(maps.Keys(f.uses)) {
		if told := f.uses[pod]; told != r.Uses[pod] {
			r.Used = told
			if !r.Quiet.IsZero() {
				r.Quiet, r.Looked, f.passed = f.now, 0, 0
			}
		}
	}
	r.Uses = f.uses
	return r, f.passed
}

// ofCA and ofNodes say what kind it is: nodes have the CA, and a user of their own.
func (r Rotation) ofCA() bool    { return r.Of == v1alpha1.SecretPKI }
func (r Rotation) ofNodes() bool { return r.Of != UserSecretPrefix+UserClient }

// due is in how long a rotation goes on although nothing happens; 0 when it does not.
func (r Rotation) due(f facts) time.Duration {
	if r.Phase != Given || r.Quiet.IsZero() {
		return 0
	}
	return max(min(f.idle-r.Looked, f.idle/looks), time.Second)
}

func (r Rotation) waits(what string) string {
	return fmt.Sprintf("Rotation of Secret %s waits %s", r.Of, what)
}

func (r Rotation) untilQuiet(f facts) string {
	if r.ofCA() {
		return fmt.Sprintf("until clients have had %s to read both CAs, since %s", f.idle, r.Quiet.UTC().Format(time.RFC3339))
	}
	text := fmt.Sprintf("until nobody has used the old password for %s, since %s", f.idle, r.Quiet.UTC().Format(time.RFC3339))
	if r.Used != "" {
		text += " (" + foreign.Line(r.Used, foreign.Word) + ")"
	}
	return text
}

// mostNamed is how many nodes or Pods a note names.
const mostNamed = 3

func servers(all []string) string {
	text := foreign.Line(all[0], foreign.Word) + ", which does not serve what is stored"
	return more(text, len(all)-1)
}

// nodes names nodes by what they serve.
func nodes(all []switchover.Node) string {
	text := ""
	for _, n := range all[:min(len(all), mostNamed)] {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("node %s, which serves generation %d", foreign.Line(n.Name, foreign.Word), n.Report.Generation)
	}
	return more(text, len(all)-mostNamed)
}

func more(text string, others int) string {
	if others > 0 {
		text += fmt.Sprintf(", and %d more", others)
	}
	return text
}
