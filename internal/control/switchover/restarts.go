package switchover

import (
	"cmp"
	"slices"
)

// Restart is the restart of containerd that a node needs before it can go on.
// The zero value: it needs none.
type Restart struct {
	// ID names one change of one node's configuration. It changes when what
	// would be written changes, or what is there.
	ID    string
	Phase RestartPhase
	// Message says what changes and why, or what failed and was undone.
	Message string
}

// RestartPhase is how far a node is with its restart.
type RestartPhase string

// The phases of a restart.
const (
	RestartWaiting RestartPhase = "Waiting" // for its approval
	RestartRunning RestartPhase = "Running"
	RestartFailed  RestartPhase = "Failed" // undone; the node is as before
)

// Approval lets a node restart its containerd once.
type Approval struct {
	Node string `json:"node"`
	UID  string `json:"uid"`
	ID   string `json:"id"`
}

// ApprovedRestart is the restart that a node may do now; empty for none.
func (s State) ApprovedRestart(node, uid string) string {
	for _, a := range s.Desired.Restarts {
		if a.Node == node && a.UID == uid {
			return a.ID
		}
	}
	return ""
}

// keepApprovals drops the approvals that were used, and those for a change that
// no node asks for any more. Three kinds stay: one whose restart failed, one of a
// node that went away, and one of a node whose report was lost; until that node is
// back, replaced, or excluded by the operator. After a lost state, approvals that
// nodes still have are taken over.
func (e *evaluation) keepApprovals() {
	var kept []Approval
	for _, n := range e.seen.Nodes {
		if e.rules.usesRestartSlot(e, n) {
			kept = append(kept, Approval{Node: n.Name, UID: n.UID, ID: cmp.Or(e.slotOf(n), n.Report.Restart.ID)})
		}
	}
	e.approve(kept)
}

// usesRestartSlot reports whether a node counts as one of those that restart
// containerd at the same time. A boot does not end that; the node's next report
// does. Only who was approved counts: what a node says of itself takes no place.
func usesRestartSlot(e *evaluation, n Node) bool { return e.slotOf(n) != "" }

// slotOf is the restart that a node was approved for and has not ended.
func (e *evaluation) slotOf(n Node) string {
	stored, asked := e.s.ApprovedRestart(n.Name, n.UID), n.Report.Restart.ID
	switch {
	case !n.Agent || n.Exclude:
		return ""
	case n.Report.UID != n.UID:
		return stored // its report was lost: it may be in the middle of it
	case asked == stored || asked == n.ApprovedRestart:
		return asked
	}
	return ""
}

// approveRestarts lets nodes restart that ask for it: a few at a time, those of
// the control plane one by one and after all others. Once one has failed no
// more are approved: one bad configuration must not take down node after node.
func (e *evaluation) approveRestarts() {
	if e.s.Desired.Layout.IsZero() && !e.s.Desired.Legacy {
		return // nothing that a node could need it for
	}
	approvals := slices.Clone(e.s.Desired.Restarts)
	used, controlPlane := 0, 0
	for _, n := range e.seen.Nodes {
		if !e.rules.usesRestartSlot(e, n) {
			continue
		}
		if n.Report.Restart.Phase == RestartFailed {
			return
		}
		used++
		if n.ControlPlane {
			controlPlane++
		}
	}
	for _, n := range e.mayRestart() {
		if used >= max(1, e.seen.Settings.RestartsAtOnce) || n.ControlPlane && controlPlane > 0 {
			continue
		}
		used++
		approvals = append(approvals, Approval{Node: n.Name, UID: n.UID, ID: n.Report.Restart.ID})
		if n.ControlPlane {
			controlPlane++
		}
	}
	e.approve(approvals)
}

// mayRestart are the nodes that wait for an approval, in the order in which
// they get it.
func (e *evaluation) mayRestart() []Node {
	var workers, controlPlane []Node
	for _, n := range e.seen.Nodes {
		if n.Report.Restart.Phase == RestartWaiting && n.Ready && e.rules.valid(n) && e.counts(n) && !e.rules.usesRestartSlot(e, n) {
			if n.ControlPlane {
				controlPlane = append(controlPlane, n)
			} else {
				workers = append(workers, n)
			}
		}
	}
	slices.SortFunc(workers, byName)
	slices.SortFunc(controlPlane, byName)
	return append(workers, controlPlane...)
}

func (e *evaluation) approve(all []Approval) {
	slices.SortFunc(all, func(a, b Approval) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.UID, b.UID)) })
	e.s.Desired.Restarts = all
}

// restartsMessage says which nodes restart, which wait for it, and which
// failed; empty when none needs a restart.
func (e *evaluation) restartsMessage() string {
	var restarting, waiting, failed []Node
	for _, n := range e.seen.Nodes {
		r := n.Report.Restart
		switch {
		case n.Report.UID == "" && e.rules.usesRestartSlot(e, n): // it was deleted
			restarting = append(restarting, n)
		case r.ID == "" || n.Report.UID != n.UID || !n.Agent:
		case r.Phase == RestartFailed && e.rules.usesRestartSlot(e, n):
			failed = append(failed, n)
		case e.rules.usesRestartSlot(e, n):
			restarting = append(restarting, n)
		default:
			waiting = append(waiting, n)
		}
	}
	return restartsMessage(restarting, waiting, failed)
}
