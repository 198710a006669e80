package controller

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/nodes"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// forbidNode installs a policy against writes of a Node.
func (c *testbed) forbidNode(name string) (lift func()) {
	c.t.Helper()
	return c.forbid("no-node", "nodes", "", "object.metadata.name != '"+name+"'", func() error {
		return c.Create(c.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, client.DryRunAll)
	})
}

// forbidTaint installs a policy against our taint on a Node.
func (c *testbed) forbidTaint(name string) {
	c.t.Helper()
	taint := corev1.Taint{Key: v1alpha1.TaintNotConverged, Effect: corev1.TaintEffectNoSchedule}
	unless := "object.metadata.name != '" + name + "' || !has(object.spec.taints) || !object.spec.taints.exists(t, t.key == '" + taint.Key + "')"
	c.forbid("no-taint", "nodes", "", unless, func() error {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{taint}}}
		return c.Create(c.t.Context(), node, client.DryRunAll)
	})
}

func (c *testbed) nodeVersion(name string) string {
	c.t.Helper()
	var n corev1.Node
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
		c.t.Fatal(err)
	}
	return n.Annotations[v1alpha1.AnnotationVersion]
}

// TestARefusedNodeStopsNobody: a policy engine refuses every write of one Node. The
// switch goes on to its end, the other nodes are marked, and Module registry names the
// node and the policy.
func TestARefusedNodeStopsNobody(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Node("worker-2", false)
	lift := c.forbidNode("worker")
	c.begin()
	c.switchTo(c.upstreamB())
	c.wantImages(layout.Fixed())
	wanted := c.layout().Version()
	c.eventually("the others are marked", func() bool { return c.nodeVersion("worker-2") == wanted && c.nodeVersion("master") == wanted })
	c.eventually("it is named", func() bool {
		says := c.moduleSays()
		return strings.Contains(says, "mark node worker: ") && strings.Contains(says, "test-no-node") && !strings.Contains(says, "worker-2")
	})
	if got := c.nodeVersion("worker"); got != "" {
		t.Errorf("the policy refuses nothing: the node shows %s", got)
	}
	lift()
	c.eventually("it is marked too", func() bool { return c.nodeVersion("worker") == wanted && c.moduleSays() == "" })
}

// TestANodeWithoutItsTaintIsWaitedFor: our taint keeps pods off a node that joins, and
// lets barriers go without it. If the taint is refused, barriers wait for the node.
func TestANodeWithoutItsTaintIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.begin()
	c.switchTo(c.upstreamA())
	c.forbidTaint("worker-9")
	c.sim.set(func(s *simulator) { s.silent["worker-9"] = true })
	c.Node("worker-9", false)
	c.eventually("it is named", func() bool { return strings.Contains(c.moduleSays(), "mark node worker-9: ") })
	if c.tainted("worker-9") {
		t.Fatal("the policy refuses nothing")
	}
	c.ask(settingsOf(c.upstreamB()))
	c.until("it is waited for", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionTransition).Message, "- worker-9:")
	})
	c.sim.set(func(s *simulator) { delete(s.silent, "worker-9") })
	c.reaches(switchover.Direct, c.upstreamB())
}

// TestATaintMeetsAnotherWriter: a Node that somebody wrote since it was seen is read
// again alone, and keeps what they wrote. Nobody is woken.
func TestATaintMeetsAnotherWriter(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var seen corev1.Node
	if err := c.Get(t.Context(), client.ObjectKey{Name: "worker"}, &seen); err != nil {
		t.Fatal(err)
	}
	theirs := seen.DeepCopy()
	theirs.Spec.Taints = append(theirs.Spec.Taints, corev1.Taint{Key: "theirs", Effect: corev1.TaintEffectNoSchedule})
	if err := c.Update(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	woken := false
	keeper := nodes.NewKeeper(&cluster.Client{Client: c.Client, Live: c.Client, Wake: func() { woken = true }}, switchover.Standard())
	v := &state.View{Snapshot: &cluster.Snapshot{Nodes: []corev1.Node{seen}}}
	v.Observed.Nodes = keeper.Observe(v.Snapshot, true, time.Now())
	v.Doc.SafeGeneration = 1
	if err := errors.Join(keeper.ApplyNodes(t.Context(), v), v.RefusedErr()); err != nil || woken || v.Later > 0 {
		t.Errorf("error %v, woken %t, again in %v", err, woken, v.Later)
	}
	var now corev1.Node
	if err := c.Get(t.Context(), client.ObjectKey{Name: "worker"}, &now); err != nil {
		t.Fatal(err)
	}
	if !cluster.HasTaint(&now) || !slices.ContainsFunc(now.Spec.Taints, func(t corev1.Taint) bool { return t.Key == "theirs" }) {
		t.Errorf("the taints are %v", now.Spec.Taints)
	}
}
