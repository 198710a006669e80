package controller

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
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
