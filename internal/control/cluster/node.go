package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Labels of nodes. AgentKeepsOff lists those that keep the agent away.
const (
	LabelControlPlane = "node-role.kubernetes.io/control-plane"
	LabelMaster       = "node-role.kubernetes.io/master"
)

// NodeLabel is a label of a node with its value.
type NodeLabel struct{ Key, Value string }

// AgentKeepsOff are the labels of nodes that the agent does not run on.
func AgentKeepsOff() []NodeLabel {
	return []NodeLabel{
		{corev1.LabelOSStable, "windows"},
		{"type", "virtual-kubelet"},
		{"eks.amazonaws.com/compute-type", "fargate"},
		{v1alpha1.LabelAgent, "false"},
	}
}

// WantsAgent reports whether the agent DaemonSet wants a pod on the node.
func WantsAgent(node *corev1.Node) bool {
	return !slices.ContainsFunc(AgentKeepsOff(), func(l NodeLabel) bool { return node.Labels[l.Key] == l.Value })
}

// IsReady reports whether a node is Ready.
func IsReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// IsControlPlane reports whether a node has a label of the control plane.
func IsControlPlane(node *corev1.Node) bool {
	_, a := node.Labels[LabelControlPlane]
	_, b := node.Labels[LabelMaster]
	return a || b
}

// HasTaint reports whether a node has our taint.
func HasTaint(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, isOurTaint)
}

// IsJoining reports whether our taint says that a node joins.
func IsJoining(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return isOurTaint(t) && t.Value == v1alpha1.TaintJoining })
}

// RemoveTaint takes our taint off a node. The list that was there is not
// changed: it may belong to a cache.
func RemoveTaint(node *corev1.Node) {
	node.Spec.Taints = slices.DeleteFunc(slices.Clone(node.Spec.Taints), isOurTaint)
}

// NodePatch changes a node from have to want. A patch of taints replaces the whole
// list: without the lock it could remove a taint that somebody has just added.
func NodePatch(have, want *corev1.Node) client.Patch {
	if HasTaint(have) == HasTaint(want) {
		return client.MergeFrom(have)
	}
	return client.MergeFromWithOptions(have, client.MergeFromWithOptimisticLock{})
}

func isOurTaint(t corev1.Taint) bool { return t.Key == v1alpha1.TaintNotConverged }
