package nodes

import (
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// TestAReportIsReadWhole: nothing that an agent says is dropped on the way to who decides.
func TestAReportIsReadWhole(t *testing.T) {
	t.Parallel()
	read := reflect.ValueOf(report(&v1alpha1.RegistryNode{Status: v1alpha1.RegistryNodeStatus{
		NodeUID: "u", BootID: "b", Generation: 1, Ahead: 2, Served: 3, Version: "v", Preflight: "Ready", Legacy: true, LayoutSchema: 2,
		Restart:   &v1alpha1.RestartStatus{ID: "r", Phase: "Waiting"},
		Upstreams: []v1alpha1.UpstreamStatus{{Registry: "b.io", Failing: true, Message: "all pulls fail"}}, Message: "m",
	}}))
	for i := range read.NumField() {
		if read.Field(i).IsZero() {
			t.Errorf("%s is not read", read.Type().Field(i).Name)
		}
	}
}

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
		got := NewKeeper(fleet.Client(), switchover.Standard()).Observe(&cluster.Snapshot{Nodes: []corev1.Node{node}}, false, time.Now())[0]
		if got.NoIPv6 != want.NoIPv6 || got.Unsupported != want.Unsupported {
			t.Errorf("%q: %+v", runtime, got)
		}
	}
}

// TestWhoComesIsNew: only a node that this process saw come, after a layout was proved,
// and for no longer than it takes to write a taint.
func TestWhoComesIsNew(t *testing.T) {
	t.Parallel()
	k, now := NewKeeper(fleet.Client(), switchover.Standard()), time.Now()
	looks := func(proved bool, names ...string) string {
		there := &cluster.Snapshot{}
		for _, name := range names {
			there.Nodes = append(there.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}})
		}
		var fresh []string
		for _, n := range k.Observe(there, proved, now) {
			if n.New {
				fresh = append(fresh, n.Name)
			}
		}
		return strings.Join(fresh, " ")
	}
	for _, step := range []struct {
		what   string
		later  time.Duration
		proved bool
		nodes  []string
		want   string
	}{
		{"the first look", 0, true, []string{"a"}, ""},
		{"one comes", 0, true, []string{"a", "b"}, "b"},
		{"its taint is not written yet", newFor - 1, true, []string{"a", "b"}, "b"},
		{"it was open to pods", 1, true, []string{"a", "b"}, ""},
		{"one comes before anything is proved", 0, false, []string{"a", "b", "c"}, ""},
		{"and now something is", 0, true, []string{"a", "b", "c", "d"}, "d"},
		{"another node by that name", 0, true, []string{"a", "b", "c", "d", "a again"}, "d a again"},
	} {
		now = now.Add(step.later)
		if got := looks(step.proved, step.nodes...); got != step.want {
			t.Errorf("%s: %q are new, want %q", step.what, got, step.want)
		}
	}
}

// TestTheTaintSaysHowANodeCame: a taint that is there keeps its value. It keeps pods away,
// and drives none out: those that run have their images.
func TestTheTaintSaysHowANodeCame(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{}
	for _, step := range []struct {
		value         string
		on            bool
		have, joining bool
	}{
		{v1alpha1.TaintJoining, true, true, true},
		{"", true, true, true},
		{"", false, false, false},
		{"", true, true, false},
		{v1alpha1.TaintJoining, true, true, false},
	} {
		marks{taint: step.value, tainted: step.on}.put(node)
		if cluster.HasTaint(node) != step.have || cluster.IsJoining(node) != step.joining {
			t.Errorf("%+v: %+v", step, node.Spec.Taints)
		}
		for _, taint := range node.Spec.Taints {
			if taint.Effect != corev1.TaintEffectNoSchedule {
				t.Errorf("the taint's effect is %s", taint.Effect)
			}
		}
	}
}
