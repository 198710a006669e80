package controller

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// Labels of nodes that the agent does not run on. The DaemonSet's affinity and
// wantsAgent say the same.
const (
	labelControlPlane = "node-role.kubernetes.io/control-plane"
	labelMaster       = "node-role.kubernetes.io/master"
	labelType         = "type" // "virtual-kubelet"
	labelCompute      = "eks.amazonaws.com/compute-type"
)

// observeNodes joins Node objects with what their agents reported, and keeps
// for how long each was seen NotReady: node clocks are not asked.
func (r *Reconciler) observeNodes(s *sight, now time.Time) []switchover.Node {
	nodes := make([]switchover.Node, 0, len(s.nodes))
	still := map[types.UID]time.Time{}
	for i := range s.nodes {
		node := &s.nodes[i]
		seen := switchover.Node{
			Name:         node.Name,
			UID:          string(node.UID),
			BootID:       node.Status.NodeInfo.BootID,
			ControlPlane: isControlPlane(node),
			Schedulable:  !node.Spec.Unschedulable,
			Ready:        isReady(node),
			Agent:        wantsAgent(node),
			Exclude:      node.Annotations[v1alpha1.AnnotationExclude] == "true",
			Tainted:      hasTaint(node),
			Report:       report(s.registryNodes[node.Name]),
		}
		if rn := s.registryNodes[node.Name]; rn != nil {
			seen.ApprovedRestart = rn.Spec.ApprovedRestart
		}
		if runtime := node.Status.NodeInfo.ContainerRuntimeVersion; runtime != "" && !strings.HasPrefix(runtime, "containerd://") {
			seen.Unsupported = "container runtime " + runtime + " is not containerd"
		}
		if !seen.Ready {
			since, known := r.notReady[node.UID]
			if !known {
				since = now
			}
			still[node.UID] = since
			seen.NotReadyFor = now.Sub(since)
		}
		nodes = append(nodes, seen)
	}
	r.notReady = still
	return nodes
}

// report is what an agent said of its node; zero when none ever did.
func report(rn *v1alpha1.RegistryNode) switchover.Report {
	if rn == nil || rn.Status.NodeUID == "" {
		return switchover.Report{}
	}
	var restart switchover.Restart
	if r := rn.Status.Restart; r != nil {
		restart = switchover.Restart{ID: r.ID, Phase: switchover.RestartPhase(r.Phase), Message: r.Message}
	}
	return switchover.Report{
		UID:        rn.Status.NodeUID,
		BootID:     rn.Status.BootID,
		Generation: rn.Status.Generation,
		Version:    rn.Status.Version,
		Preflight:  switchover.Preflight(rn.Status.Preflight),
		Legacy:     rn.Status.Legacy,
		Restart:    restart,
		Message:    rn.Status.Message,
	}
}

func isReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func isControlPlane(node *corev1.Node) bool {
	_, a := node.Labels[labelControlPlane]
	_, b := node.Labels[labelMaster]
	return a || b
}

// wantsAgent reports whether the agent DaemonSet wants a pod on the node.
func wantsAgent(node *corev1.Node) bool {
	l := node.Labels
	return l[corev1.LabelOSStable] != "windows" && l[labelType] != "virtual-kubelet" &&
		l[labelCompute] != "fargate" && l[v1alpha1.LabelAgent] != "false"
}

func hasTaint(node *corev1.Node) bool {
	for _, t := range node.Spec.Taints {
		if t.Key == v1alpha1.TaintNotConverged {
			return true
		}
	}
	return false
}

// nextExclusion is how long from now the first NotReady node has been so for
// long enough to be left out; 0 when none is on the way there.
func nextExclusion(w switchover.Observed) time.Duration {
	var next time.Duration
	for _, n := range w.Nodes {
		if n.Ready || n.NotReadyFor >= w.Settings.NotReadyFor {
			continue
		}
		if left := w.Settings.NotReadyFor - n.NotReadyFor; next == 0 || left < next {
			next = left
		}
	}
	return next
}
