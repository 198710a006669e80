package scripts

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

func scriptFor(groups, bundles []string) *deckhousev1alpha1.NodeGroupConfiguration {
	return &deckhousev1alpha1.NodeGroupConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "script", Generation: 2},
		Spec:       deckhousev1alpha1.NodeGroupConfigurationSpec{Content: "true", NodeGroups: groups, Bundles: bundles},
	}
}

func reporting(name, group, phase string, generation int64) v1alpha1.RegistryNode {
	n := v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.RegistryNodeSpec{NodeGroup: group}}
	if phase != "" {
		n.Status.Scripts = []v1alpha1.ScriptStatus{{Name: "other", Phase: v1alpha1.ScriptFailed}, {Name: "script", Generation: generation, Phase: phase, Message: "exit status 1"}}
	}
	return n
}

func TestStatusOfScripts(t *testing.T) {
	t.Parallel()
	all := []string{"*"}
	var many []v1alpha1.RegistryNode
	for i := range 13 {
		many = append(many, reporting(fmt.Sprintf("node-%02d", i), "", v1alpha1.ScriptFailed, 2))
	}
	for _, tt := range []struct {
		name             string
		groups, bundles  []string
		nodes            []v1alpha1.RegistryNode
		off              bool
		want, message    string
		wantFailedOfMany int32
	}{
		{name: "nobody", groups: all, bundles: all, want: "0/0"},
		{name: "done", groups: all, bundles: all, want: "2/2",
			nodes: []v1alpha1.RegistryNode{reporting("a", "", v1alpha1.ScriptDone, 2), reporting("b", "x", v1alpha1.ScriptDone, 2)}},
		{name: "done once", groups: all, bundles: all, want: "0/1", message: "Waiting for a",
			nodes: []v1alpha1.RegistryNode{reporting("a", "", v1alpha1.ScriptDone, 1)}},
		{name: "not yet heard of", groups: all, bundles: all, want: "0/3", message: "Waiting for a, b, c",
			nodes: []v1alpha1.RegistryNode{reporting("a", "", "", 0), reporting("b", "", v1alpha1.ScriptPending, 2), reporting("c", "", v1alpha1.ScriptRunning, 2)}},
		{name: "some bundle, which nodes know", groups: all, bundles: []string{"debian"}, want: "1/1",
			nodes: []v1alpha1.RegistryNode{reporting("a", "", "", 0), reporting("b", "", v1alpha1.ScriptDone, 2)}},
		{name: "its groups", groups: []string{"worker"}, bundles: all, want: "1/2", message: "Waiting for b",
			nodes: []v1alpha1.RegistryNode{reporting("a", "worker", v1alpha1.ScriptDone, 2), reporting("b", "worker", "", 2), reporting("c", "master", "", 2),
				reporting("d", "", "", 2), reporting("e", "master", v1alpha1.ScriptDone, 1)}},
		{name: "failed", groups: all, bundles: all, want: "1/3", wantFailedOfMany: 1, message: "Failed on b. b: exit status 1\nWaiting for c",
			nodes: []v1alpha1.RegistryNode{reporting("a", "", v1alpha1.ScriptDone, 2), reporting("b", "", v1alpha1.ScriptFailed, 2), reporting("c", "", v1alpha1.ScriptFailed, 1)}},
		{name: "many", groups: all, bundles: all, want: "0/13", wantFailedOfMany: 13, nodes: many,
			message: "Failed on node-00, node-01, node-02, node-03, node-04, node-05, node-06, node-07, node-08, node-09 (+3 more). node-00: exit status 1"},
		{name: "off", groups: all, bundles: all, want: "0/1", off: true, nodes: []v1alpha1.RegistryNode{reporting("a", "", "", 0)},
			message: "NodeGroupConfigurations are switched off: the registry controller runs with --scripts=off\nWaiting for a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := (&summary{off: tt.off}).statusOf(scriptFor(tt.groups, tt.bundles), tt.nodes)
			want := deckhousev1alpha1.NodeGroupConfigurationStatus{ObservedGeneration: 2, Nodes: tt.want, Failed: tt.wantFailedOfMany, Message: tt.message}
			if got != want {
				t.Errorf("status\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}
