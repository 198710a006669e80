package platform

import (
	"cmp"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
)

// Mover re-points the platform's workloads. What it remembers is what only this
// process saw: nothing depends on it, after a restart it is seen again.
type Mover struct {
	cluster *cluster.Client
	// leaveBroken is how long the rollout of a workload that was broken before
	// may go no further until it is left where it is.
	leaveBroken time.Duration

	refused   string // what the API server refused of the last tries
	tried     map[types.UID]string
	conflicts map[types.UID]conflict
	sent      map[types.UID]sent
	reached   map[types.UID]reached
}

// NewMover makes one. LeaveBroken is how long the rollout of a workload that was
// broken before may go no further until it is left where it is; 0 means one
// minute.
func NewMover(c *cluster.Client, leaveBroken time.Duration) *Mover {
	return &Mover{
		cluster: c, leaveBroken: cmp.Or(leaveBroken, BrokenBefore),
		tried: map[types.UID]string{}, conflicts: map[types.UID]conflict{},
		sent: map[types.UID]sent{}, reached: map[types.UID]reached{},
	}
}

// conflict is who was found to apply a workload's images, and in which switch:
// the next one asks again.
type conflict struct {
	manager string
	number  int64
}

// conflictingManager is who was found to apply a workload's images in this
// switch; empty when nobody was.
func (m *Mover) conflictingManager(uid types.UID, number int64) string {
	if c, ok := m.conflicts[uid]; ok && c.number == number {
		return c.manager
	}
	return ""
}

// sent is what this process knows of its own patch of a workload. The workload
// carries an annotation for the next process; but someone who replaces a whole
// object takes that away, and must not be overwritten for ever.
type sent struct {
	number int64  // of the switch
	from   string // the resource version that the patch was made from; empty for none
	late   bool   // made after the platform's move had ended, and not there yet
}

// sentIn is the patch of this switch; zero when there was none.
func (m *Mover) sentIn(uid types.UID, number int64) sent {
	if s := m.sent[uid]; s.number == number {
		return s
	}
	return sent{}
}

// unseen reports whether the cache still has what the patch was made from.
func (s sent) unseen(w cluster.Workload) bool {
	return s.from != "" && s.from == w.GetResourceVersion()
}

func (m *Mover) remember(ro Rollout, doc state.Document) {
	m.sent[ro.GetUID()] = sent{number: doc.Switch, from: ro.GetResourceVersion(), late: doc.Moved()}
}

// arrived notes that a rollout has ended.
func (m *Mover) arrived(uid types.UID) {
	if s, ok := m.sent[uid]; ok && s.late {
		s.late = false
		m.sent[uid] = s
	}
}

// forget drops what is known of workloads in earlier switches.
func (m *Mover) forget(number int64) {
	maps.DeleteFunc(m.conflicts, func(_ types.UID, c conflict) bool { return c.number != number })
	maps.DeleteFunc(m.sent, func(_ types.UID, s sent) bool { return s.number != number })
	maps.DeleteFunc(m.reached, func(_ types.UID, r reached) bool { return r.number != number })
}

// notOurs says why a workload is not ours to re-point in this switch; empty when
// it is.
func (m *Mover) notOurs(w cluster.Workload, number int64, names []layout.Name) string {
	if reason := w.NotOurs(names); reason != "" {
		return reason
	}
	if manager := m.conflictingManager(w.GetUID(), number); manager != "" {
		return cluster.AppliedBy(manager)
	}
	if number != 0 && (w.RepointedIn(number) || m.sentIn(w.GetUID(), number).from != "") {
		return "it was re-pointed in this switch and changed back"
	}
	return ""
}
