package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// TestTheNodesOfTheAgent: each label that keeps it off does so alone.
func TestTheNodesOfTheAgent(t *testing.T) {
	t.Parallel()
	node := func(labels map[string]string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: labels}}
	}
	if !WantsAgent(node(nil)) || !WantsAgent(node(map[string]string{corev1.LabelOSStable: "linux", v1alpha1.LabelAgent: "true", "type": "master"})) {
		t.Error("an ordinary node has no agent")
	}
	for _, l := range AgentKeepsOff() {
		if WantsAgent(node(map[string]string{l.Key: l.Value})) {
			t.Errorf("with %s=%s it has one", l.Key, l.Value)
		}
	}
	if IsControlPlane(node(nil)) || !IsControlPlane(node(map[string]string{LabelControlPlane: ""})) || !IsControlPlane(node(map[string]string{LabelMaster: ""})) {
		t.Error("the control plane is not known by its labels")
	}
}
