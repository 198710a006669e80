package component

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// agents is how far the agents are with the template of their DaemonSet.
type agents struct {
	total, current int
	// outdated have another revision than the DaemonSet, in the order in which
	// they are replaced: those that are not Ready, then workers, then the control
	// plane.
	outdated []outdatedAgent
	// waiting are nodes whose new agent does not work yet.
	waiting []pendingAgent
}

type outdatedAgent struct {
	pod          *excerpt.Pod
	controlPlane bool
}

type pendingAgent struct {
	node switchover.Node
	why  string
	// pod is the new agent; nil when there is none.
	pod *excerpt.Pod
}

// observeAgents compares the agents' pods with the template of their DaemonSet. It
// leaves out nodes that users exclude, and nodes that are NotReady: their pods
// cannot be deleted. But a node that is NotReady before its new agent has reported
// is waited for: the new agent may be the reason.
func observeAgents(v *state.View) agents {
	var a agents
	ds := agentWorkload(v)
	if ds == nil {
		return a
	}
	generation := v.WantedGeneration()
	pods := agentPods(v)
	for _, n := range v.Observed.Nodes {
		if !n.Agent || n.Exclude {
			continue
		}
		pod := pods[n.Name]
		isOutdated := pod != nil && revisionOf(pod) != revisionOf(ds.Template)
		if !n.Ready && (pod == nil || isOutdated || hasReported(v, n, pod)) {
			continue
		}
		a.total++
		switch why := pendingReason(v, n, pod, generation); {
		case isOutdated && pod.GetDeletionTimestamp() == nil:
			a.outdated = append(a.outdated, outdatedAgent{pod, n.ControlPlane})
		case why != "":
			a.waiting = append(a.waiting, pendingAgent{n, why, pod})
		default:
			a.current++
		}
	}
	slices.SortFunc(a.outdated, func(x, y outdatedAgent) int {
		return cmp.Or(first(!x.pod.Ready, !y.pod.Ready), first(!x.controlPlane, !y.controlPlane), strings.Compare(x.pod.Node, y.pod.Node))
	})
	slices.SortFunc(a.waiting, func(x, y pendingAgent) int { return strings.Compare(x.node.Name, y.node.Name) })
	return a
}

// agentWorkload is the agents' DaemonSet; nil when there is none.
func agentWorkload(v *state.View) *cluster.Workload {
	return v.Inventory.OwnWorkload("DaemonSet", v1alpha1.DaemonSetAgent)
}

// agentPods are the agents by node. If a node has two, it is the one that is not
// being deleted.
func agentPods(v *state.View) map[string]*excerpt.Pod {
	pods := map[string]*excerpt.Pod{}
	for pod := range v.Inventory.OwnPods() {
		if pod.IsAgent() && (pods[pod.Node] == nil || pod.GetDeletionTimestamp() == nil) {
			pods[pod.Node] = pod
		}
	}
	return pods
}

// first compares two values: true comes first.
func first(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// hasReported reports whether the node's report is from this pod and this boot,
// and not from the pod before.
func hasReported(v *state.View, n switchover.Node, pod *excerpt.Pod) bool {
	rn := v.RegistryNodes[n.Name]
	return rn != nil && rn.Status.AgentPod == string(pod.GetUID()) && rn.Status.NodeUID == n.UID && rn.Status.BootID == n.BootID
}

// pendingReason says, for users, why a node's agent does not work yet; empty when
// it does. Generation is what it should serve; 0 for nothing.
func pendingReason(v *state.View, n switchover.Node, pod *excerpt.Pod, generation int64) string {
	switch {
	case pod == nil:
		return "it has no Pod of DaemonSet " + v1alpha1.DaemonSetAgent
	case pod.GetDeletionTimestamp() != nil:
		return "Pod " + pod.Name + " is being replaced"
	case pod.WaitingReason() != "":
		return "Pod " + pod.Name + ": " + pod.WaitingReason()
	case !pod.Ready:
		return "Pod " + pod.Name + " is not Ready"
	case !hasReported(v, n, pod):
		return "Pod " + pod.Name + " has not reported yet"
	case generation == 0 || n.Report.Preflight != switchover.PreflightReady:
		return "" // nothing is published, or the node cannot take part
	case n.Report.Generation < generation:
		return cmp.Or(firstLine(n.Report.Message), fmt.Sprintf("it serves generation %d of %d", n.Report.Generation, generation))
	}
	return firstLine(n.Report.Message)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// next are the pods to delete now: first one alone, then at most atOnce at a time,
// of the control plane at most one. It is none while a node waits for its new
// agent. So an upgrade to a version that does not work stops at the first node.
// AtOnce 0 means a tenth of the nodes.
func (a agents) next(atOnce int) []*excerpt.Pod {
	if len(a.waiting) > 0 {
		return nil
	}
	if atOnce == 0 {
		atOnce = max(1, a.total/10)
	}
	if a.current == 0 {
		atOnce = 1
	}
	var pods []*excerpt.Pod
	controlPlane := false
	for _, o := range a.outdated {
		if len(pods) == atOnce || o.controlPlane && controlPlane {
			continue
		}
		controlPlane = controlPlane || o.controlPlane
		pods = append(pods, o.pod)
	}
	return pods
}

// UpgradeAgents replaces agents of other versions of the module. Meanwhile their
// nodes pull through the in-cluster proxy. During a switch it replaces only agents
// that do not come up: the switch waits for their nodes.
func (k *Keeper) UpgradeAgents(ctx context.Context, v *state.View) error {
	ds := agentWorkload(v)
	if ds == nil {
		return nil
	}
	a := observeAgents(v)
	k.warnOfAgents(v, a)
	wanted := k.wanted(agent(k.cfg), v)
	settled := revisionOf(ds.Template) == revisionOf(wanted.Template) && !ds.Unobserved
	var pods []*excerpt.Pod
	switch {
	case !settled:
	case !mayUpgrade(v.Doc):
		pods = a.failing()
	case k.postponeReason(v) == "":
		pods = a.next(k.cfg.AgentsAtOnce)
	}
	for _, pod := range pods {
		deleted, err := k.cluster.DeleteSeen(ctx, pod.Object())
		if err != nil {
			return fmt.Errorf("replace Pod %s by one of this version: %w", cluster.Key(pod), err)
		}
		if deleted {
			k.cluster.Log.Info("an agent of another version is replaced", "node", pod.Node, "pod", pod.Name)
		}
	}
	return nil
}

// failing are outdated agents that do not come up.
func (a agents) failing() []*excerpt.Pod {
	var pods []*excerpt.Pod
	for _, o := range a.outdated {
		if o.pod.WaitingReason() != "" {
			pods = append(pods, o.pod)
		}
	}
	return pods
}

// postponeReason says, for users, what the replacement of agents waits for; empty
// when nothing.
func (k *Keeper) postponeReason(v *state.View) string {
	for _, approval := range v.Doc.Desired.Restarts {
		failed := slices.ContainsFunc(v.Observed.Nodes, func(n switchover.Node) bool {
			return n.Name == approval.Node && n.UID == approval.UID && n.Report.Restart.Phase == switchover.RestartFailed
		})
		if !failed { // the agent must stay until the restart has ended
			return "the restart of containerd on " + approval.Node
		}
	}
	return k.firstRollout(v) // nodes whose agent is away pull through the proxy
}

// warnOfAgents makes an Event for each new agent that does not come up.
func (k *Keeper) warnOfAgents(v *state.View, a agents) {
	still := map[string]bool{}
	nodes := map[string]*corev1.Node{}
	for i := range v.Nodes {
		nodes[v.Nodes[i].Name] = &v.Nodes[i]
	}
	for _, late := range a.waiting {
		if late.pod == nil || late.pod.WaitingReason() == "" {
			continue
		}
		id := string(late.pod.GetUID())
		still[id] = true
		if node := nodes[late.node.Name]; !k.told[id] && node != nil {
			k.cluster.Events.Warningf(node, "RegistryAgentNotReady", "%s", late.why)
		}
	}
	k.told = still
}

// UpgradeMessage is what users should know of an upgrade that is under way; empty
// when there is none. It does not change condition Ready: the cluster works.
func (k *Keeper) UpgradeMessage(v *state.View) string {
	if !mayUpgrade(v.Doc) {
		return ""
	}
	if k.image.missing != "" {
		return fmt.Sprintf("The module is not upgraded: its image %q is not found at %s: %s", k.cfg.Image, v.Doc.Desired.Own.Base(), k.image.missing)
	}
	a := observeAgents(v)
	late := slices.DeleteFunc(a.waiting, func(l pendingAgent) bool {
		// If no agent is outdated, this may be a node that has just joined.
		return len(a.outdated) == 0 && (l.pod == nil || l.pod.WaitingReason() == "")
	})
	if len(a.outdated)+len(late) == 0 {
		return ""
	}
	message := fmt.Sprintf("Agents: %d of %d nodes run this version of the module.", a.current, a.total)
	for i, l := range late {
		if i == 3 {
			return message + fmt.Sprintf(" (+%d more)", len(late)-i)
		}
		message += fmt.Sprintf(" Waiting for %s: %s.", l.node.Name, strings.TrimSuffix(l.why, "."))
	}
	if why := k.postponeReason(v); why != "" {
		message += " Waiting for " + why + "."
	}
	return message
}
