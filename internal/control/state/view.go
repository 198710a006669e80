package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// View is what one pass works with: what is there, what switchover was told of
// it, and what should be. The controller makes it. Those who are given it add to
// Again and Later; Store.WithIdentity sets Notes and Rotated; Store.Publish and package pullsecret also replace the Secret that
// they wrote, pullsecret sets Blocked, and component fills Observed.Proxy
// and, with the controller, Identity.
type View struct {
	*cluster.Snapshot
	Observed switchover.Observed
	// Doc is the stored document while the pass looks, and the new one once it
	// is stored: nothing counts as done by the pass that asks for it.
	Doc Document
	// Reads is the highest schema in which a layout may be published: all who route by
	// one read it. 0 is 1.
	Reads int
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

// BlockedErr joins the errors of the blocked namespaces, sorted by name.
func (v *View) BlockedErr() error {
	errs := make([]error, 0, len(v.Blocked))
	for _, namespace := range slices.Sorted(maps.Keys(v.Blocked)) {
		errs = append(errs, v.Blocked[namespace])
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

// WantedGeneration is what agents should report. It is that of the published
// layout, not of the desired one: agents follow the Secret. The order back to the
// legacy format has a generation of its own, newer than all that a node which was
// away may still have.
func (v *View) WantedGeneration() int64 {
	if v.Doc.Desired.Legacy {
		return v.Doc.Generation
	}
	return Published(v.Layout).Layout.Generation
}
