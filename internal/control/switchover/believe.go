package switchover

import (
	"math"
	"slices"
	"sync"
	"time"
)

// After a restore from a backup, reports may be all that tells that the state is
// old: agents never go back, and what they report was never published as far as the
// state knows. A node that lies looks the same. So each is believed, and no more often
// than a few switches that begin anew can be borne.

const (
	// believeAgain is when a node may be believed again, by the controller's clock.
	believeAgain = time.Hour
	// mostBelieved is how many are believed in that time.
	mostBelieved = 10
	// maxJump is how far above what is known a report is believed. It leaves room to
	// count on, however often somebody lies.
	maxJump = 1 << 20
)

// Belief is a node whose report was the only sign that the state was lost.
type Belief struct {
	UID        string    `json:"uid"`
	Generation int64     `json:"generation"`
	At         time.Time `json:"at"`
}

// isRecent reports whether a node may not be believed again yet. A time that is far
// ahead is of a clock that was wrong.
func isRecent(e *evaluation, b Belief) bool {
	return e.seen.Now.Sub(b.At).Abs() < believeAgain
}

// recentBeliefs are those that are not old; nil when none is left.
func (e *evaluation) recentBeliefs() []Belief {
	var recent []Belief
	for _, b := range e.s.Believed {
		if e.rules.recent(e, b) {
			recent = append(recent, b)
		}
	}
	return recent
}

// BelievesAgain is when the next node may be believed again; zero when all may.
func (s State) BelievesAgain() time.Time {
	var next time.Time
	for _, b := range s.Believed {
		if at := b.At.Add(believeAgain); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// highestReport is the highest generation that any node reported, valid or not, of
// those that are believed. The operator's word counts for more than a node's.
func (e *evaluation) highestReport() int64 { return e.ahead().Report.highest() }

// highest is the lowest generation that a node could take, if its report is true. What
// it serves and cannot prove, because its registry is gone, it ignores everything
// older for, and another layout of the same generation. It may be any number, also the
// largest.
func (r Report) highest() int64 {
	if r.Ahead > 0 {
		return max(r.Generation, r.Served, min(r.Ahead, math.MaxInt64-1)+1)
	}
	return max(r.Generation, r.Served)
}

// ahead is the node with the highest report that is believed.
func (e *evaluation) ahead() Node {
	recent := e.recentBeliefs()
	if len(recent) >= mostBelieved {
		return Node{}
	}
	known := e.s.Generation
	if published, found := e.published(); found {
		known = max(known, published.Generation)
	}
	var highest Node
	limit, usual := known+maxJump, sync.OnceValue(e.usual) // it sorts: any number of nodes may lie
	for _, n := range e.seen.Nodes {
		again := slices.ContainsFunc(recent, func(b Belief) bool { return b.UID == n.UID })
		if again || n.Exclude || n.Report.highest() <= highest.Report.highest() {
			continue
		}
		if n.Report.highest() > limit {
			limit = max(limit, usual()+maxJump)
		}
		if n.Report.highest() <= limit {
			highest = n
		}
	}
	return highest
}

// usual is what more than half of the nodes report at least. A lie that was believed once
// may have led all of them further than one is believed, if the state is then put back.
func (e *evaluation) usual() int64 {
	var all []int64
	for _, n := range e.seen.Nodes {
		if n.Agent {
			all = append(all, n.Report.highest())
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return min(all[(len(all)-1)/2], math.MaxInt64/2)
}

// rememberBelief notes the node whose report is the only sign that the state was
// lost. One is enough: after another restore the others are believed at once.
func (e *evaluation) rememberBelief() {
	if e.lostBy(0) {
		return
	}
	n := e.ahead()
	e.s.Believed = append(slices.Clone(e.s.Believed), Belief{UID: n.UID, Generation: max(n.Report.Generation, n.Report.Served, n.Report.Ahead), At: e.seen.Now})
}
