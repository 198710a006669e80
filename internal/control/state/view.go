package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// View is what one pass works with: what is there, what switchover was told of
// it, and what should be. The controller makes it. Those who are given it add to
// Again and Later; Store.WithIdentity sets Notes and Rotated; Store.Publish and package
// pullsecret also replace the Secret that they wrote, pullsecret sets Blocked, nodes sets
// Refused, and component fills Observed.Proxy and, with the controller, Identity.
type View struct {
	*cluster.Snapshot
	Observed switchover.Observed
	// Doc is the stored document while the pass looks, and the new one once it
	// is stored: nothing counts as done by the pass that asks for it.
	Doc Document
	// TakenBack is whether CA or users of Doc are what Secrets show, because the stored
	// document did not know them.
	TakenBack bool
	// Reads is the highest schema in which a layout may be published: all who route by
	// one read it. 0 is 1.
	Reads int
	// Close is what a close look of this pass found, past all caches; nil when none
	// was made. It is for the census, and for what may be taken away.
	Close *cluster.Inventory
	// Blocked are namespaces that refused their pull secret in this pass. Their
	// workloads wait.
	Blocked map[string]error
	// Notes are what users should know of CA, certificate and users, in sentences: what
	// is wrong with them, and what a rotation waits for.
	Notes []string
	// Identity is what others show of them, and Rotated are the rotations that this
	// pass has moved on.
	Identity Identity
	Rotated  []Rotation
	// Grants are those that the new document will have. The present one keeps its own
	// while the pass looks: what was published is measured against what was stored.
	Grants []Grant
	// Refused are nodes about which a write was not done in this pass. It stops
	// nothing.
	Refused map[string]error
	// Again is whether something outside the cluster should be asked again
	// although no object will change: a registry, or the proxy.
	Again bool
	// Later is in how long another pass is due; 0 when none is asked for.
	Later time.Duration
}

// WakeIn asks for a pass although nothing may happen until then.
func (v *View) WakeIn(d time.Duration) {
	if d > 0 {
		v.Later = Soonest(v.Later, d)
	}
}

func (v *View) note(format string, words ...any) {
	v.Notes = append(v.Notes, fmt.Sprintf(format, words...))
}

// Refuse notes that a write about a node was not done.
func (v *View) Refuse(node string, err error) {
	if v.Refused == nil {
		v.Refused = map[string]error{}
	}
	v.Refused[node] = errors.Join(v.Refused[node], err)
}

// Public is an error whose whole text users may read: it quotes no secret.
type Public struct{ Err error }

// Error is that of Err.
func (p Public) Error() string { return p.Err.Error() }

// Unwrap is Err.
func (p Public) Unwrap() error { return p.Err }

// BlockedErr joins the errors of the blocked namespaces, sorted by name.
func (v *View) BlockedErr() error { return joined(v.Blocked, "namespace(s)") }

// RefusedErr joins the errors of the refused nodes, sorted by name.
func (v *View) RefusedErr() error { return joined(v.Refused, "node(s)") }

// Of many things that fail, mostReasons are told with the reason, and mostNames more
// by name.
const (
	mostReasons = 3
	mostNames   = 10
)

func joined(by map[string]error, what string) error {
	names := slices.Sorted(maps.Keys(by))
	var errs []error
	for _, name := range names[:min(len(names), mostReasons)] {
		errs = append(errs, by[name])
	}
	if more := names[len(errs):]; len(more) > 0 {
		named := strings.Join(more[:min(len(more), mostNames)], ", ")
		if len(more) > mostNames {
			named += ", ..."
		}
		errs = append(errs, Public{fmt.Errorf("the same of %d more %s: %s", len(more), what, named)})
	}
	return errors.Join(errs...)
}

// Soonest is the smallest of those that are not 0; 0 when all are.
func Soonest(times ...time.Duration) time.Duration {
	var next time.Duration
	for _, t := range times {
		if t > 0 && (next == 0 || t < next) {
			next = t
		}
	}
	return next
}

// KnownNames are all names that a reference may start with: those handed out,
// and those that will be added to them.
func (v *View) KnownNames() []layout.Name {
	names := append(v.Doc.KnownNames(), layout.Fixed())
	names = append(names, v.Observed.Published.Layout.Names()...)
	if !v.Observed.Installation.IsZero() {
		names = append(names, layout.NameOf(v.Observed.Installation))
	}
	slices.SortFunc(names, layout.Name.Compare)
	return slices.Compact(names)
}

// WantedGeneration is what agents should report; 0 for nothing. It is that of the
// published layout, not of the desired one: agents follow the Secret.
func (v *View) WantedGeneration() int64 {
	if v.Doc.Desired.Legacy {
		return 0
	}
	return Published(v.Layout).Layout.Generation
}
