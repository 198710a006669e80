package controller

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/installation"
)

// TestALostRegistryNodeIsWaitedFor: RegistryNodes are deleted by hand in the middle of a
// switch, while one agent hangs. Those that can report again. The other node is tainted,
// and all the same it is waited for and named: it may run anything. A node that joins is
// named too, and not waited for.
func TestALostRegistryNodeIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Node("worker-2", false)
	c.begin()
	c.switchTo(c.upstreamA())

	c.sim.set(func(s *simulator) { s.silent["worker"], s.silent["joiner"] = true, true })
	c.Node("joiner", false)
	c.eventually("the taint says that it joins", func() bool { return c.tainted("joiner") && c.joins("joiner") })
	c.ask(settingsOf(c.upstreamB()))
	waits := func(what string, texts ...string) {
		t.Helper()
		c.until(what, func(v view) bool {
			said := v.condition(v1alpha1.ConditionTransition)
			lacks := slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(said.Message, text) })
			return !lacks && said.Status == metav1.ConditionFalse && !strings.Contains(said.Message, "joiner")
		})
	}
	waits("the silent node is waited for", "2/3 node(s) ready", "- worker: ")
	for _, n := range []string{"master", "worker", "worker-2"} {
		if err := c.Delete(t.Context(), c.registryNode(n)); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("it is tainted, and the others have reported again", func() bool {
		return c.tainted("worker") && !c.joins("worker") && c.reported("master") > 0 && c.reported("worker-2") > 0
	})
	// What another node lacks now is seen by a pass that saw the taint.
	c.sim.set(func(s *simulator) { s.silent["worker-2"] = true })
	if err := c.Delete(t.Context(), c.registryNode("worker-2")); err != nil {
		t.Fatal(err)
	}
	waits("both are waited for", "1/3 node(s) ready", "- worker: ", "- worker-2: ", ": its agent has not reported")
	if active := c.state().doc.Active.Upstream; active != c.upstreamA() {
		t.Errorf("the switch went on, to %s", active)
	}

	c.sim.set(func(s *simulator) { delete(s.silent, "worker"); delete(s.silent, "worker-2") })
	v := c.reaches(switchover.Direct, c.upstreamB())
	if message := v.condition(v1alpha1.ConditionReady).Message; !strings.Contains(message, "joiner (joins)") {
		t.Errorf("Ready does not name the node that joins: %q", message)
	}
	c.sim.set(func(s *simulator) { delete(s.silent, "joiner") })
	c.until("it has joined, and nothing is left to say", func(v view) bool {
		return v.condition(v1alpha1.ConditionReady).Message == "" && !c.tainted("joiner")
	})
}

// reported is the generation that a node reported; 0 without a RegistryNode.
func (c *testbed) reported(node string) int64 {
	c.t.Helper()
	var rn v1alpha1.RegistryNode
	if err := client.IgnoreNotFound(c.Get(c.t.Context(), client.ObjectKey{Name: node}, &rn)); err != nil {
		c.t.Fatal(err)
	}
	return rn.Status.Generation
}

// TestSinceWhenAnAgentIsSilent: two agents renew their Leases, then one of them hangs, and its
// Node stays Ready. A switch waits for it, and says since when it is silent. It goes on
// without it once the Node is NotReady, and names it; when the agent is back, nothing is
// left to say.
func TestSinceWhenAnAgentIsSilent(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var ahead atomic.Int64
	later := func(d time.Duration) { ahead.Add(int64(d)) }
	c.cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c.begin()
	c.switchTo(c.upstreamA())
	from := c.cfg.Now().Truncate(time.Second)
	c.beat("master")
	c.beat("worker")
	c.sim.set(func(s *simulator) { s.silent["worker"] = true })
	c.ask(settingsOf(c.upstreamB()))
	waits := func(what, text string) string {
		t.Helper()
		return c.until(what, func(v view) bool {
			said := v.condition(v1alpha1.ConditionTransition)
			return said.Status == metav1.ConditionFalse && strings.Contains(said.Message, "1/2 node(s) ready") && strings.Contains(said.Message, text)
		}).condition(v1alpha1.ConditionTransition).Message
	}
	waits("it is waited for, and not silent yet", `- worker: "`)
	to := c.cfg.Now()
	later(2 * time.Minute)
	c.beat("master")
	later(2 * time.Minute)
	c.look()
	const silent = "- worker: agent silent since "
	text := waits("it is silent", silent)
	_, rest, _ := strings.Cut(text, silent)
	since, err := time.Parse(time.RFC3339, strings.Fields(rest)[0])
	if err != nil || since.Before(from) || since.After(to) || strings.Contains(text, "master") {
		t.Errorf("it was heard between %s and %s: %v\n%s", from.UTC(), to.UTC(), err, text)
	}
	if active := c.state().doc.Active.Upstream; active != c.upstreamA() {
		t.Errorf("the switch went on, to %s", active)
	}

	c.setReady("worker", corev1.ConditionFalse)
	c.eventually("it is left out", func() bool {
		later(30 * time.Second)
		c.look()
		installation.Pause(time.Second)
		return len(c.state().doc.Excluded) == 1
	})
	v := c.reaches(switchover.Direct, c.upstreamB())
	if said := v.condition(v1alpha1.ConditionReady).Message; !strings.Contains(said, "1 node(s) not waited for: worker") {
		t.Errorf("Ready says %q", said)
	}
	c.setReady("worker", corev1.ConditionTrue)
	named := "worker (agent silent since " + since.UTC().Format(time.RFC3339)
	c.until("it is named after the switch, too", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionReady).Message, named) && c.tainted("worker")
	})
	c.sim.set(func(s *simulator) { delete(s.silent, "worker") })
	back := func(what string) {
		t.Helper()
		c.beat("worker")
		c.until(what, func(v view) bool {
			return v.condition(v1alpha1.ConditionReady).Message == "" && !c.tainted("worker") && len(v.doc.Excluded) == 0
		})
	}
	c.beat("master")
	back("it is back, and nothing is left to say")

	// After a switch, what it reported last is good: nobody waits, and it is named.
	later(4 * time.Minute)
	c.beat("master")
	c.look()
	c.until("it is named although it serves what it should", func(v view) bool {
		said := v.condition(v1alpha1.ConditionReady)
		return said.Status == metav1.ConditionTrue && strings.Contains(said.Message, "1 node(s) are not heard: worker (agent silent since ")
	})
	back("it is heard again")
}

// beat renews the Lease of a node's agent, or makes it.
func (c *testbed) beat(node string) {
	c.t.Helper()
	now := metav1.NowMicro()
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.LeaseOfAgent(node), Labels: map[string]string{v1alpha1.LabelApp: v1alpha1.DaemonSetAgent}},
		Spec:       coordinationv1.LeaseSpec{RenewTime: &now},
	}
	err := c.Create(c.t.Context(), lease)
	if apierrors.IsAlreadyExists(err) {
		err = c.Patch(c.t.Context(), lease, client.Merge)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// look makes the controller look again, by an annotation that it knows: when a test
// moves its clock no timer knows.
func (c *testbed) look() {
	c.t.Helper()
	c.retried(func(ctx context.Context) error {
		var node corev1.Node
		if err := c.Get(ctx, client.ObjectKey{Name: "master"}, &node); err != nil {
			return err
		}
		cluster.SetAnnotation(&node, v1alpha1.AnnotationExclude, "not at "+c.cfg.Now().String())
		return c.Update(ctx, &node)
	})
}
