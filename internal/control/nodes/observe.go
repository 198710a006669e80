package nodes

import (
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// oldReferences are the versions of containerd that read no IPv6 address in an image
// reference.
var oldReferences = regexp.MustCompile(`^containerd://v?1\.[0-6]\.`)

// newFor is how long a node is new: long enough to write a taint, also when a pass
// ends early or the write is refused once. A node that was open to pods for longer
// is like any other.
const newFor = time.Minute

// Observe joins Nodes with the reports of their agents. How long a node is
// NotReady is measured by now, because clocks of nodes may be wrong. Proved is
// whether a layout was proved everywhere: nodes that come before that are not new.
func (k *Keeper) Observe(there *cluster.Snapshot, proved bool, now time.Time) []switchover.Node {
	nodes := make([]switchover.Node, 0, len(there.Nodes))
	still, came := map[types.UID]time.Time{}, map[types.UID]time.Time{}
	for i := range there.Nodes {
		node := &there.Nodes[i]
		seen := switchover.Node{
			Name:         node.Name,
			UID:          string(node.UID),
			BootID:       node.Status.NodeInfo.BootID,
			ControlPlane: cluster.IsControlPlane(node),
			Schedulable:  !node.Spec.Unschedulable,
			Ready:        cluster.IsReady(node),
			Agent:        cluster.WantsAgent(node),
			Exclude:      node.Annotations[v1alpha1.AnnotationExclude] == "true",
			Tainted:      cluster.HasTaint(node),
			Joining:      cluster.IsJoining(node),
			Heard:        k.heartbeats.of(node.Name),
			Report:       report(there.RegistryNodes[node.Name]),
		}
		if rn := there.RegistryNodes[node.Name]; rn != nil {
			seen.ApprovedRestart = rn.Spec.ApprovedRestart
		}
		if runtime := node.Status.NodeInfo.ContainerRuntimeVersion; runtime != "" && !strings.HasPrefix(runtime, "containerd://") {
			seen.Unsupported = "container runtime " + runtime + " is not containerd"
		}
		seen.NoIPv6 = oldReferences.MatchString(node.Status.NodeInfo.ContainerRuntimeVersion)
		if !seen.Ready {
			since, known := k.notReady[node.UID]
			if !known {
				since = now
			}
			still[node.UID] = since
			seen.NotReadyFor = now.Sub(since)
		}
		since, known := k.came[node.UID]
		if !known && k.came != nil && proved {
			since = now
		}
		came[node.UID] = since
		seen.New = !since.IsZero() && now.Sub(since) < newFor
		nodes = append(nodes, seen)
	}
	k.notReady, k.came = still, came
	return nodes
}

// report is what the agent of a node reported; zero when it never did.
func report(rn *v1alpha1.RegistryNode) switchover.Report {
	if rn == nil || rn.Status.NodeUID == "" {
		return switchover.Report{}
	}
	var restart switchover.Restart
	if r := rn.Status.Restart; r != nil {
		restart = switchover.Restart{ID: r.ID, Phase: switchover.RestartPhase(r.Phase), Message: r.Message}
	}
	var failing v1alpha1.UpstreamStatus
	for _, u := range rn.Status.Upstreams {
		if u.Failing {
			failing = u
		}
	}
	return switchover.Report{
		Failing:    failing.Registry,
		FailsBy:    failing.Message,
		UID:        rn.Status.NodeUID,
		BootID:     rn.Status.BootID,
		Generation: rn.Status.Generation,
		Ahead:      rn.Status.Ahead,
		Served:     rn.Status.Served,
		Version:    rn.Status.Version,
		Preflight:  switchover.Preflight(rn.Status.Preflight),
		Legacy:     rn.Status.Legacy,
		Reads:      rn.Status.LayoutSchema,
		Restart:    restart,
		Message:    rn.Status.Message,
	}
}

// NextExclusion is the time until a NotReady node is left out; 0 when there is no
// such node.
func NextExclusion(o switchover.Observed) time.Duration {
	var next time.Duration
	for _, n := range o.Nodes {
		if !n.Ready {
			next = state.Soonest(next, o.Settings.NotReadyFor-n.NotReadyFor)
		}
	}
	return next
}
