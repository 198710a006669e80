package nodes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// TestAnOlderAgentIsServed: the report of an agent of version 0.1 counts, although
// it does not say which pod or version it is.
func TestAnOlderAgentIsServed(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("testdata", "older-agent.json"))
	if err != nil {
		t.Fatal(err)
	}
	rn := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}
	if err := json.Unmarshal(data, rn); err != nil {
		t.Fatal(err)
	}
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1", UID: "5f0f0d3c-7e0e-4a55-8a6e-3d1d3e0d9d11"}}
	node.Status.NodeInfo = corev1.NodeSystemInfo{BootID: "2b9a1c1e-6f3a-4a53-b1de-7f5a0a7f6b20", ContainerRuntimeVersion: "containerd://1.7.27"}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	s := &cluster.Snapshot{Nodes: []corev1.Node{node}, RegistryNodes: map[string]*v1alpha1.RegistryNode{"w1": rn}}
	seen := NewKeeper(fleet.Client(), switchover.Standard()).Observe(s, false, time.Now())[0]
	if seen.Report.Generation != 7 || seen.Report.UID != seen.UID || seen.Report.BootID != seen.BootID || seen.Report.Preflight != switchover.PreflightReady {
		t.Errorf("it is read as %+v", seen.Report)
	}
	state := switchover.State{SafeGeneration: 7}
	state.Desired.Layout.Generation = 7
	if tainted := switchover.Standard().Tainted(state, switchover.Observed{Nodes: []switchover.Node{seen}}); len(tainted) > 0 {
		t.Errorf("its proof of generation 7 does not count: %v is tainted", tainted)
	}
	marksOf(&node, seen.Report).put(&node)
	if node.Annotations[v1alpha1.AnnotationVersion] != rn.Status.Version || node.Labels[v1alpha1.LabelContainerdConfig] != "default" {
		t.Errorf("the Node shows %v, %v", node.Annotations, node.Labels)
	}
}
