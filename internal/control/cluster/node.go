package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

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
	for _, l := range AgentKeepsOff() {
		if node.Labels[l.Key] == l.Value {
			return false
		}
	}
	return true
}

// IsReady reports whether a node is Ready.
func IsReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
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

// RemoveTaint takes our taint off a node. The list that was there is not
// changed: it may belong to a cache.
func RemoveTaint(node *corev1.Node) {
	node.Spec.Taints = slices.DeleteFunc(slices.Clone(node.Spec.Taints), isOurTaint)
}

func isOurTaint(t corev1.Taint) bool { return t.Key == v1alpha1.TaintNotConverged }
