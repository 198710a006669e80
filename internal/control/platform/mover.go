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

// Mover re-points the platform's workloads. What it remembers is not stored:
// after a restart the process observes it again.
type Mover struct {
	cluster *cluster.Client
	// leaveBroken is how long the rollout of a workload that was already broken
	// may make no progress before the switch goes on without it.
	leaveBroken time.Duration

	refused []string             // which patches the API server refused in the last dry run, for users
	tried   map[types.UID]string // versions whose dry run passed
	left    map[types.UID]left
	sent    map[types.UID]sent
	reached map[types.UID]reached
}

// NewMover makes a Mover. For leaveBroken, 0 means one minute.
func NewMover(c *cluster.Client, leaveBroken time.Duration) *Mover {
	return &Mover{
		cluster: c, leaveBroken: cmp.Or(leaveBroken, BrokenBefore),
		tried: map[types.UID]string{}, left: map[types.UID]left{},
		sent: map[types.UID]sent{}, reached: map[types.UID]reached{},
	}
}

// left is why a workload is left where it is, and the number of the switch that
// this was found in. The next switch asks again.
type left struct {
	why    string
	number int64
}

// leftIn is why a workload is left where it is in this switch; empty for others.
func (m *Mover) leftIn(uid types.UID, number int64) string {
	if l, ok := m.left[uid]; ok && l.number == number {
		return l.why
	}
	return ""
}

// leave leaves a workload where it is for this switch. The next pass lists it.
func (m *Mover) leave(uid types.UID, number int64, why string) {
	m.left[uid] = left{why, number}
	m.cluster.Wake()
}

// sent is what this process remembers of its patch of a workload. An annotation
// on the workload tells the next process. But a tool that replaces the whole
// object removes the annotation, and we must not patch against it for ever.
type sent struct {
	number int64  // of the switch
	from   string // the resource version that the patch was made from; empty for none
	late   bool   // made after step Switch was done, and its rollout still runs
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

// ended notes the end of a rollout.
func (m *Mover) ended(uid types.UID) {
	if s, ok := m.sent[uid]; ok && s.late {
		s.late = false
		m.sent[uid] = s
	}
}

// forget drops what was remembered in other switches than the one with this
// number.
func (m *Mover) forget(number int64) {
	maps.DeleteFunc(m.left, func(_ types.UID, l left) bool { return l.number != number })
	maps.DeleteFunc(m.sent, func(_ types.UID, s sent) bool { return s.number != number })
	maps.DeleteFunc(m.reached, func(_ types.UID, r reached) bool { return r.number != number })
}

// notOurs says why we must not re-point a workload in this switch; empty when we
// may.
func (m *Mover) notOurs(w cluster.Workload, number int64, names []layout.Name) string {
	if reason := w.NotOurs(names); reason != "" {
		return reason
	}
	if why := m.leftIn(w.GetUID(), number); why != "" {
		return why
	}
	if number != 0 && (w.RepointedIn(number) || m.sentIn(w.GetUID(), number).from != "") {
		return "it was re-pointed in this switch and changed back"
	}
	return ""
}
