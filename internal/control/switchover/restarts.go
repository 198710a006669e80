package switchover

import (
	"cmp"
	"slices"
	"strings"
)

// Restart is the restart of containerd that a node needs before it can go on.
// The zero value: it needs none.
type Restart struct {
	// ID names one change of one node's configuration. It is another one as
	// soon as what would be written, or what is there, is another.
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

// keepApprovals drops the approvals that were used, or that are for a change
// which nobody asks for any more. One that was used without success stays: so
// does one of a node that went away with it, until it is back, replaced, or
// excluded by the operator. What nodes hold without our knowing, after a lost
// state, is taken over.
func (x *evaluation) keepApprovals() {
	var kept []Approval
	for _, n := range x.w.Nodes {
		if restart := n.Report.Restart; x.rules.holds(x, n) {
			kept = append(kept, Approval{Node: n.Name, UID: n.UID, ID: restart.ID})
		}
	}
	x.approve(kept)
}

// holds reports whether a node takes one of the places of those that restart.
// A boot in between does not end that: the node's next word does.
func holds(x *evaluation, n Node) bool {
	r := n.Report.Restart
	if r.ID == "" || !n.Agent || n.Exclude || n.Report.UID != n.UID {
		return false
	}
	return r.Phase == RestartRunning || r.Phase == RestartFailed || n.ApprovedRestart == r.ID || x.s.ApprovedRestart(n.Name, n.UID) == r.ID
}

// approveRestarts lets those restart that ask for it: a few at a time, nodes of
// the control plane one by one and after all others, and nobody any more once
// one has failed. Otherwise one bad configuration would take the nodes down one
// after the other.
func (x *evaluation) approveRestarts() {
	if x.s.Desired.Layout.IsZero() && !x.s.Desired.Legacy {
		return // nothing that a node could need it for
	}
	approvals := slices.Clone(x.s.Desired.Restarts)
	controlPlane := 0
	for _, n := range x.w.Nodes {
		if !x.rules.holds(x, n) {
			continue
		}
		if n.Report.Restart.Phase == RestartFailed {
			return
		}
		if n.ControlPlane {
			controlPlane++
		}
	}
	for _, n := range x.mayRestart() {
		if len(approvals) >= max(1, x.w.Settings.RestartsAtOnce) || n.ControlPlane && controlPlane > 0 {
			continue
		}
		approvals = append(approvals, Approval{Node: n.Name, UID: n.UID, ID: n.Report.Restart.ID})
		if n.ControlPlane {
			controlPlane++
		}
	}
	x.approve(approvals)
}

// mayRestart are the nodes that wait for an approval, in the order in which
// they get it.
func (x *evaluation) mayRestart() []Node {
	var waiting []Node
	for _, n := range x.w.Nodes {
		if n.Report.Restart.Phase == RestartWaiting && n.Ready && x.rules.valid(n) && x.counts(n) && !x.rules.holds(x, n) {
			waiting = append(waiting, n)
		}
	}
	slices.SortFunc(waiting, func(a, b Node) int {
		if a.ControlPlane != b.ControlPlane {
			return int(btoi(a.ControlPlane) - btoi(b.ControlPlane))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return waiting
}

func (x *evaluation) approve(all []Approval) {
	slices.SortFunc(all, func(a, b Approval) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.UID, b.UID)) })
	x.s.Desired.Restarts = all
}

// restartsMessage says who restarts, who waits for it, and who failed; empty
// when nobody needs a restart.
func (x *evaluation) restartsMessage() string {
	var under, waiting, failed []Node
	for _, n := range x.w.Nodes {
		r := n.Report.Restart
		switch {
		case r.ID == "" || n.Report.UID != n.UID || !n.Agent:
		case r.Phase == RestartFailed:
			failed = append(failed, n)
		case x.rules.holds(x, n):
			under = append(under, n)
		default:
			waiting = append(waiting, n)
		}
	}
	return restartsMessage(under, waiting, failed)
}
