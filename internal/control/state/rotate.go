package state

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/pki"
)

// Rotations are the settings of rotations. Zero values are not defaults: use
// DefaultRotations.
type Rotations struct {
	// Idle is how long an old password must have been unused before it is refused, and
	// how long clients have to read a new CA.
	Idle time.Duration
	// Seen is how long the end of a CA must be in sight, without a break, until it is
	// replaced, or counts as expired: a clock that jumps replaces nothing, and ends no
	// rotation.
	Seen time.Duration

	// gap is the most that counts as looked at between two passes, which are due sooner:
	// if the API server is away, nobody sees who uses an old password. 0 is two looks.
	gap time.Duration
}

// looks is how often Looked is stored until an old password is refused: a restart of the
// controller costs an hour of the day at most.
const looks = 24

// DefaultRotations are those of the documentation.
func DefaultRotations() Rotations { return Rotations{Idle: 24 * time.Hour, Seen: time.Hour} }

// Identity is what the in-cluster proxy, the stores and the pull secrets say of CA,
// certificate and users, measured against the stored document.
type Identity struct {
	// Behind are those Pods of the proxy and those stores that do not serve what is stored.
	Behind []string
	// Uses are by user and by the UID of the proxy's Pod, or of the store's Node, the last uses
	// of an old password, as they tell them.
	Uses map[string]map[string]string
	// Told is whether all pull secrets say what is stored.
	Told bool
}

// AddUses adds what one says of old passwords, for each user "NAME TIME ADDRESS", comma-separated.
// The times are of its node's clock, which may be wrong: they are not compared.
func (i *Identity) AddUses(by, all string) {
	for use := range strings.SplitSeq(all, ",") {
		name, told, ok := strings.Cut(foreign.Line(use, foreign.Word), " ")
		if !ok {
			continue
		}
		if i.Uses[name] == nil {
			i.Uses[name] = map[string]string{}
		}
		i.Uses[name][by] = told
	}
}

// rotate moves all rotations on. Whatever it changes is stored before anybody is
// told.
func (s *Store) rotate(doc *Document, v *View, now time.Time) error {
	lost := v.TakenBack || len(v.Doc.Users) == 0
	var kept []Rotation
	for _, of := range []string{v1alpha1.SecretPKI, UserSecretPrefix + UserNode, UserSecretPrefix + UserClient} {
		was, f := doc.rotation(of), s.facts(*doc, v, of, now)
		f.passed = s.passed(was, v.Observed.Now)
		if lost { // nothing begins or ends by that: what was followed is not known, nor what is there
			was.Asked, f.asked, f.due = f.asked, "", false
			f.may, f.useless = false, false
		}
		r, task, note := was.next(f)
		if !r.Quiet.Equal(was.Quiet) {
			s.looked[of] = v.Observed.Now
		}
		if err := s.do(doc, r, task, now); err != nil {
			return err
		}
		if task != nothing {
			s.cluster.Log.Info("rotation", "secret", r.Of, "phase", r.Phase)
			v.Rotated = append(v.Rotated, r)
		}
		if note != "" {
			v.Notes = append(v.Notes, note)
		}
		if v.WakeIn(r.due(f)); r.Phase != "" || r.Asked != "" {
			kept = append(kept, r)
		}
	}
	doc.Rotations = kept
	return nil
}

// passed is for how long this process has looked at a rotation since it last said so, by
// a clock that does not jump: each answer is a write of the state.
func (s *Store) passed(r Rotation, now time.Time) time.Duration {
	since, known := s.looked[r.Of]
	passed := now.Sub(since)
	if known && passed < min(s.rotations.Idle/looks, s.rotations.Idle-r.Looked) {
		return 0
	}
	s.looked[r.Of] = now
	if !known {
		return 0
	}
	return min(passed, cmp.Or(s.rotations.gap, 2*s.rotations.Idle/looks))
}

// rotation is the one of a Secret; one that was never asked for has no phase.
func (d Document) rotation(of string) Rotation {
	if i := slices.IndexFunc(d.Rotations, func(r Rotation) bool { return r.Of == of }); i >= 0 {
		return d.Rotations[i]
	}
	return Rotation{Of: of}
}

func (s *Store) facts(doc Document, v *View, of string, now time.Time) facts {
	f := facts{
		now: now, idle: s.rotations.Idle,
		may:    v.Doc.Reached() && doc.Reached() && doc.Target.HasFixedAddress() && (doc.Desired.Proxy || !doc.Desired.Store.IsZero()),
		behind: v.Identity.Behind,
		told:   v.Identity.Told,
		unreached: func(generation int64) []switchover.Node {
			return switchover.Unreached(doc.State, v.Observed.Nodes, generation)
		},
	}
	if secret := v.OwnSecret(of); secret != nil {
		f.asked = secret.Annotations[v1alpha1.AnnotationRotate]
	}
	node, _ := doc.User(UserNode)
	fallback, stores := doc.Desired.Layout.Fallback, doc.Desired.Layout.Stores
	has := fallback.Credentials == node.Credentials && (stores.IsZero() || stores.Credentials == node.Credentials)
	if of == v1alpha1.SecretPKI {
		has = fallback.CA == doc.PKI.Trusted() && (stores.IsZero() || stores.CA == doc.PKI.Trusted())
		f.due = s.endsSoon(doc, v, now)
		f.useless = f.due && now.After(doc.PKI.CA.Expires()) && !doc.PKI.CA.Expires().IsZero()
	} else {
		f.uses = v.Identity.Uses[of[len(UserSecretPrefix):]]
	}
	if has {
		f.published = doc.Desired.Layout.Generation
	}
	return f
}

// endsSoon reports whether the end of the CA has been in sight for long enough. That
// is measured by a clock that does not jump, from the start of this process.
func (s *Store) endsSoon(doc Document, v *View, now time.Time) bool {
	if !doc.PKI.CA.Ends(now) {
		s.ends = time.Time{}
		return false
	}
	if s.ends.IsZero() {
		s.ends = v.Observed.Now
	}
	left := s.ends.Add(s.rotations.Seen).Sub(v.Observed.Now)
	v.WakeIn(left)
	return left <= 0
}

// do makes what a rotation asks for.
func (s *Store) do(doc *Document, r Rotation, what task, now time.Time) error {
	if what == nothing {
		return nil
	}
	if r.ofCA() {
		return s.doCA(doc, what, now)
	}
	users := slices.Clone(doc.Users)
	i := slices.IndexFunc(users, func(u User) bool { return UserSecretPrefix+u.Username == r.Of })
	if i < 0 {
		return nil
	}
	u := &users[i]
	switch what {
	case makeNew:
		next, err := pki.NewPassword()
		if err != nil {
			return fmt.Errorf("user %s: %w", u.Username, err)
		}
		u.Next = next
	case useNew:
		u.Password, u.Next, u.Previous = u.Next, "", HashOf(u.Password)
		if u.Username == UserClient {
			doc.readAgain()
		}
	default:
		u.Previous = ""
	}
	doc.Users = users
	return nil
}

func (s *Store) doCA(doc *Document, what task, now time.Time) error {
	switch what {
	case makeNew:
		next, err := pki.NewCA(now, pki.ServiceNames(s.domain))
		if err != nil {
			return fmt.Errorf("new CA: %w", err)
		}
		doc.PKI.Next = next
		doc.readAgain()
	case useNew:
		doc.PKI.Previous, doc.PKI.CA, doc.PKI.Next = doc.PKI.CA.Cert, doc.PKI.Next, pki.KeyPair{}
	default:
		doc.PKI.Previous = ""
	}
	return nil
}

// readAgain makes Deckhouse read its registry again, as a switch does: by a number
// that no switch had.
func (d *Document) readAgain() {
	d.Generation++
	d.Switch = d.Generation
}

// RotationsUnderWay are the rotations that are under way.
func (d Document) RotationsUnderWay() []Rotation {
	return slices.DeleteFunc(slices.Clone(d.Rotations), func(r Rotation) bool { return r.Phase == "" })
}
