package nodes

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// TestRuntimes: what a kubelet says of its runtime tells what the node cannot do.
func TestRuntimes(t *testing.T) {
	t.Parallel()
	for runtime, want := range map[string]switchover.Node{
		"":                          {},
		"containerd://2.4.2":        {},
		"containerd://1.7.35-k3s1":  {},
		"containerd://1.6.20~ds1":   {NoIPv6: true},
		"containerd://1.60.0":       {},
		"cri-o://1.6.0":             {Unsupported: "container runtime cri-o://1.6.0 is not containerd"},
		"containerd://v1.6.8-aws.1": {NoIPv6: true},
	} {
		node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}
		node.Status.NodeInfo.ContainerRuntimeVersion = runtime
		got := NewKeeper(fleet.Client(), switchover.Standard()).Observe(&cluster.Snapshot{Nodes: []corev1.Node{node}}, time.Now())[0]
		if got.NoIPv6 != want.NoIPv6 || got.Unsupported != want.Unsupported {
			t.Errorf("%q: %+v", runtime, got)
		}
	}
}
