package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/installation"
)

// release pushes images of other versions of the module to both registries.
func (c *testbed) release(tags ...string) {
	for _, tag := range tags {
		c.b.Push(c.t, pathB, tag, c.a.PushRandom(c.t, pathA, tag, 1, 64))
	}
}

// version makes the next controllers be of another version of the module, whose
// agents have other arguments.
func (c *testbed) version(tag string) {
	c.cfg.Image = ":" + tag
	c.cfg.AgentArgs = nil
	if tag != "module" {
		c.cfg.AgentArgs = []string{"--new-in=" + tag}
	}
}

func (c *testbed) agentArgs() string {
	return strings.Join(c.daemonSet(v1alpha1.Namespace, v1alpha1.DaemonSetAgent).Spec.Template.Spec.Containers[0].Args, " ")
}

// moduleSays is the message in Module registry.
func (c *testbed) moduleSays() string {
	var m deckhousev1alpha1.Module
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: v1alpha1.ModuleName}, &m); err != nil {
		return ""
	}
	for _, condition := range m.Status.Conditions {
		if condition.Type == deckhousev1alpha1.ConditionIsReady {
			return condition.Message
		}
	}
	return ""
}

// nodeVersions are the annotations with the version, by node.
func (c *testbed) nodeVersions() map[string]string {
	c.t.Helper()
	var nodes corev1.NodeList
	if err := c.List(c.t.Context(), &nodes); err != nil {
		c.t.Fatal(err)
	}
	out := map[string]string{}
	for i := range nodes.Items {
		out[nodes.Items[i].Name] = nodes.Items[i].Annotations[v1alpha1.AnnotationVersion]
	}
	return out
}

// TestTheModuleIsUpgradedAndRolledBack: install, switch to B, upgrade, roll back,
// return to Unmanaged. Agents are replaced one at a time, the control plane last.
// The layout does not change.
func TestTheModuleIsUpgradedAndRolledBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.release("module2")
	c.withKubelets()
	c.Node("worker-2", false)
	c.Node("another", false)
	stop := c.start(nil)
	a, b := c.upstreamA(), c.upstreamB()
	c.reaches(switchover.Unmanaged, a)
	c.eventually("agents of A", func() bool { return c.agentsRun(a.Base()+":module", 4) })
	c.switchTo(b)
	if !c.agentsRun(a.Base()+":module", 4) {
		t.Errorf("the switch restarted agents: %v", c.agents())
	}
	c.eventually("all nodes show their version", func() bool { return c.nodeVersions()["worker-2"] != "" })
	before, versions, generation := string(c.secret(v1alpha1.SecretLayout).Data[v1alpha1.KeyLayout]), c.nodeVersions(), c.state().doc.Generation
	stop()

	for _, tag := range []string{"module2", "module"} {
		c.sim.set(func(s *simulator) { s.kubelets.order = nil })
		c.version(tag)
		stop = c.start(nil)
		c.eventually("agents of "+tag, func() bool { return c.agentsRun(b.Base()+":"+tag, 4) })
		c.eventually("the proxy of "+tag, func() bool { return c.image(v1alpha1.Namespace, v1alpha1.DeploymentProxy) == b.Base()+":"+tag })
		c.eventually("the module says nothing of it any more", func() bool { return c.moduleSays() == "" })
		pods := c.agentPods()
		if order := slices.Compact(pods.order); !slices.Equal(order, []string{"another", "worker", "worker-2", "master"}) {
			t.Errorf("agents of %s came to %v", tag, order)
		}
		if pods.mostAway != 1 {
			t.Errorf("%d agents were away at once", pods.mostAway)
		}
		if strings.Contains(c.agentArgs(), "--new-in") == (tag == "module") {
			t.Errorf("agents of %s have arguments %s", tag, c.agentArgs())
		}
		if v := c.state(); !v.ready(switchover.Direct) || v.doc.Generation != generation {
			t.Errorf("after the upgrade to %s:\n%v", tag, v)
		}
		if after := string(c.secret(v1alpha1.SecretLayout).Data[v1alpha1.KeyLayout]); after != before || !maps.Equal(versions, c.nodeVersions()) {
			t.Errorf("the upgrade to %s changed what nodes route by: %v, was %v", tag, c.nodeVersions(), versions)
		}
		stop()
	}
	c.start(nil)
	c.ask(unmanaged)
	c.reaches(switchover.Unmanaged, b)
	c.wantHistory()
}

// TestAVersionThatDoesNotWorkStopsAtTheFirstNode: users read where and why, and
// Ready stays True. The old version then replaces the broken agent.
func TestAVersionThatDoesNotWorkStopsAtTheFirstNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.release("bad")
	c.withKubelets()
	c.Node("worker-2", false)
	c.sim.set(func(s *simulator) { s.kubelets.broken = ":bad" })
	stop := c.start(nil)
	a := c.upstreamA()
	c.switchTo(a)
	c.eventually("agents", func() bool { return c.agentsRun(a.Base()+":module", 3) })
	stop()

	c.version("bad")
	stop = c.start(nil)
	c.eventually("it is said", func() bool {
		return strings.Contains(c.moduleSays(), "Agents: 0 of 3 nodes run this version of the module. Waiting for worker: Pod registry-agent-") &&
			strings.Contains(c.moduleSays(), "ImagePullBackOff")
	})
	c.eventually("an Event says it", func() bool {
		var list eventsv1.EventList
		if err := c.List(t.Context(), &list); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Reason == "RegistryAgentNotReady" && e.Regarding.Name == "worker"
		})
	})
	c.triggerPasses()
	if got := c.agents(); len(got) != 2 || got["master"] != a.Base()+":module" || got["worker-2"] != a.Base()+":module" {
		t.Errorf("agents that run: %v", got)
	}
	if !c.state().ready(switchover.Direct) {
		t.Errorf("not Ready although the cluster works\n%v", c.state())
	}
	stop()

	c.version("module")
	c.start(nil)
	c.eventually("agents again", func() bool { return c.agentsRun(a.Base()+":module", 3) })
	c.eventually("nothing more is said", func() bool { return c.moduleSays() == "" })
	if made := c.agentPods().made; made != 5 {
		t.Errorf("%d agents were started, want 3, a broken one and its successor", made)
	}
}

// triggerPasses makes the controller do passes, to see that it changes nothing.
func (c *testbed) triggerPasses() {
	c.t.Helper()
	for i := range 5 {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "master"}}
		// A patch, because others write the Node too.
		patch := fmt.Sprintf(`{"metadata":{"annotations":{"test/kick":"%d"}}}`, i)
		if err := c.Patch(c.t.Context(), n, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			c.t.Fatal(err)
		}
		installation.Pause(timeout / 300)
	}
}

// TestAnImageThatIsNotThereUpgradesNothing: neither running agents nor the template.
func TestAnImageThatIsNotThereUpgradesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.withKubelets()
	stop := c.start(nil)
	a := c.upstreamA()
	c.reaches(switchover.Unmanaged, a)
	c.eventually("agents", func() bool { return c.agentsRun(a.Base()+":module", 2) })
	stop()
	c.version("late")
	c.start(nil)
	c.eventually("it is said", func() bool {
		return strings.Contains(c.moduleSays(), `The module is not upgraded: its image ":late" is not found at `+a.Base())
	})
	c.triggerPasses()
	if args := c.agentArgs(); strings.Contains(args, "--new-in") || !c.agentsRun(a.Base()+":module", 2) {
		t.Errorf("the template has %s, agents run %v", args, c.agents())
	}
	c.release("late")
	c.eventually("agents of the new version", func() bool { return c.agentsRun(a.Base()+":late", 2) })
}

// TestAnUpgradeInTheMiddleOfASwitch: at each step a controller of another version
// takes over, and the first one comes back. The switch goes on, no agent is
// restarted, and the template keeps the old arguments. The old agents do not report
// which pod they are.
func TestAnUpgradeInTheMiddleOfASwitch(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.release("module2")
	c.withKubelets()
	c.sim.set(func(s *simulator) { s.kubelets.mute = ":module" })
	a, b := c.upstreamA(), c.upstreamB()
	stop := c.start(nil)
	c.switchTo(a)
	c.eventually("agents", func() bool { return c.agentsRun(a.Base()+":module", 2) })
	args := c.agentArgs()
	for i, at := range stops {
		if at.step == v1alpha1.ConditionPreflight || at.step == v1alpha1.ConditionFinal {
			continue // Preflight cannot stop again, and at Final nothing is left to do
		}
		if at.step == v1alpha1.ConditionSwitch { // nothing else is re-pointed from Direct to Direct
			c.sim.set(func(s *simulator) { s.stuck["deckhouse"] = true })
		}
		c.reachStep(i)
		for _, tag := range []string{"module2", "module", "module2"} {
			stop()
			c.version(tag)
			stop = c.start(nil)
			c.triggerPasses()
			if !c.waitsAt(c.state(), at.step) {
				t.Errorf("%s of %s does not wait:\n%v", at.step, tag, c.state())
			}
			if got := c.agentArgs(); got != args || !c.agentsRun(a.Base()+":module", 2) {
				t.Errorf("at %s, version %s: agents have arguments %s and run %v", at.step, tag, got, c.agents())
			}
		}
		if i < len(stops)-2 {
			c.ask(settingsOf(a))
			stop()
			c.version("module")
			stop = c.start(nil)
			if at.step != v1alpha1.ConditionImages {
				at.release(c)
			}
			c.reaches(switchover.Direct, a)
			at.release(c)
		}
	}
	c.sim.set(func(s *simulator) { clear(s.stuck) })
	c.reaches(switchover.Direct, b)
	c.eventually("the new version", func() bool { return c.agentsRun(b.Base()+":module2", 2) })
	if made := c.agentPods().made; made != 4 {
		t.Errorf("%d agents were started, want 2 and after the switch 2", made)
	}
	c.wantHistory()
}

// TestTwoVersionsDoNotWorkAtOnce: a new version waits for the lease, and so does an
// old version that comes back.
func TestTwoVersionsDoNotWorkAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.release("module2")
	c.withKubelets()
	c.cfg.LeaderElect = true
	a := c.upstreamA()
	older := c.start(nil)
	c.reaches(switchover.Unmanaged, a)
	c.eventually("agents", func() bool { return c.agentsRun(a.Base()+":module", 2) })
	c.version("module2")
	newer := c.start(nil)
	c.triggerPasses()
	if !c.agentsRun(a.Base()+":module", 2) || c.agentArgs() != "--listen=127.0.0.1:5001" {
		t.Errorf("the newer one works beside the older one: %s, %v", c.agentArgs(), c.agents())
	}
	older()
	c.eventually("the newer one has taken over", func() bool { return c.agentsRun(a.Base()+":module2", 2) })
	c.version("module")
	c.start(nil)
	c.triggerPasses()
	if !c.agentsRun(a.Base()+":module2", 2) {
		t.Errorf("the older one works beside the newer one: %v", c.agents())
	}
	newer()
	c.eventually("the older one is back", func() bool { return c.agentsRun(a.Base()+":module", 2) })
	if v := c.state(); !v.ready(switchover.Unmanaged) || v.doc.Desired.Layout.Generation != 0 {
		t.Errorf("what became of it:\n%v", v)
	}
}
