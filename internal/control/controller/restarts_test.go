package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// simV1 is a node whose containerd must restart to use the host directory, or to
// stop using it.
type simV1 struct {
	directory    bool
	broken       bool // its restart fails
	staysRunning bool // it stays Running
	repairs      int
	restarts     int
}

// restarted reports whether a node's containerd is as its agent was told. Otherwise
// it writes into the status what the node needs.
func (s *simulator) restarted(rn *v1alpha1.RegistryNode, routes, legacy bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, status := s.v1[rn.Name], &rn.Status
	if n == nil {
		return true
	}
	if status.Restart != nil && status.Restart.Phase == v1alpha1.RestartRunning {
		switch {
		case n.staysRunning:
		case n.broken:
			status.Restart.Phase, status.Restart.Message = v1alpha1.RestartFailed, "containerd did not answer in 60s; the backup is back"
		default:
			n.directory, n.restarts, status.Restart = !n.directory, n.restarts+1, nil
		}
		return false
	}
	if !routes && !legacy || n.directory == routes {
		status.Restart = nil
		return true
	}
	id := fmt.Sprint(rn.Name, "-", n.repairs, "-", routes)
	switch r := status.Restart; {
	case r == nil || r.ID != id:
		status.Restart = &v1alpha1.RestartStatus{ID: id, Phase: v1alpha1.RestartWaiting, Message: "config_path is to be set"}
	case r.Phase == v1alpha1.RestartWaiting && rn.Spec.ApprovedRestart == id:
		r.Phase = v1alpha1.RestartRunning
		s.noteRunning()
	}
	return false
}

// noteRunning remembers how many nodes restarted at the same time.
func (s *simulator) noteRunning() {
	var nodes v1alpha1.RegistryNodeList
	if err := s.c.List(s.c.t.Context(), &nodes); err != nil {
		return
	}
	running := 1
	for i := range nodes.Items {
		if r := nodes.Items[i].Status.Restart; r != nil && r.Phase == v1alpha1.RestartRunning {
			running++
		}
	}
	s.mostRunning = max(s.mostRunning, running)
}

func keyOf(name string) client.ObjectKey { return client.ObjectKey{Name: name} }

func (c *testbed) delete(o client.Object) {
	c.t.Helper()
	if err := c.Delete(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testbed) v1(names ...string) {
	c.sim.set(func(s *simulator) {
		for _, name := range names {
			s.v1[name] = &simV1{}
		}
	})
}

func (c *testbed) phase(name string) string {
	if r := c.registryNode(name).Status.Restart; r != nil {
		return r.Phase
	}
	return ""
}

// TestRestartsAreApproved: three nodes on containerd 1.x, two at a time. One fails:
// the switch stops, and says why and which nodes wait. After a repair it goes on. A
// node that joins later in Direct is restarted too.
func TestRestartsAreApproved(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.cfg.Settings.RestartsAtOnce = 2
	c.Node("worker-2", false)
	c.Node("worker-3", false)
	c.v1("worker", "worker-2", "worker-3")
	c.sim.set(func(s *simulator) { s.v1["worker"].broken, s.v1["worker-2"].staysRunning = true, true })
	c.begin()
	c.ask(settingsOf(c.upstreamA()))
	v := c.until("it is told who failed and who waits", func(v view) bool {
		m := v.condition(v1alpha1.ConditionTransition).Message
		return strings.Contains(m, "worker: containerd did not answer in 60s; the backup is back\n") &&
			strings.Contains(m, "containerd restarts: 1 of 3 nodes: worker-2 (Running); waiting: worker-3\n")
	})
	t.Log(v.condition(v1alpha1.ConditionTransition).Message)
	c.sim.set(func(s *simulator) { s.v1["worker-2"].staysRunning = false })
	c.eventually("the other one that was approved is done", func() bool { return c.phase("worker-2") == "" })
	v = c.until("the slot of who is done is not given away", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionTransition).Message, "containerd restarts: 0 of 2 nodes; waiting: worker-3\n")
	})
	if got := c.registryNode("worker-3").Spec.ApprovedRestart; got != "" || v.ready(switchover.Direct) {
		t.Errorf("worker-3 has approval %q, although worker failed", got)
	}
	c.sim.set(func(s *simulator) { s.v1["worker"].broken = false; s.v1["worker"].repairs++ })
	c.reaches(switchover.Direct, c.upstreamA())
	c.wantRestarts(map[string]int{"worker": 1, "worker-2": 1, "worker-3": 1})
	c.wantNoApproval()

	c.v1("late")
	c.Node("late", false)
	c.eventually("a node that joins restarts and serves", func() bool {
		var node corev1.Node
		return c.Get(t.Context(), keyOf("late"), &node) == nil && node.Annotations[v1alpha1.AnnotationVersion] == c.layout().Version() && !c.tainted("late")
	})
	c.wantRestarts(map[string]int{"late": 1})
	c.switchTo(c.upstreamB())
	c.wantRestarts(map[string]int{"worker": 1, "worker-2": 1, "worker-3": 1, "late": 1})
	c.sim.set(func(s *simulator) {
		if s.mostRunning > 2 {
			t.Errorf("%d nodes restarted at once", s.mostRunning)
		}
	})
}

func (c *testbed) wantRestarts(want map[string]int) {
	c.t.Helper()
	c.sim.set(func(s *simulator) {
		for name, n := range want {
			if got := s.v1[name].restarts; got != n {
				c.t.Errorf("containerd of %s was restarted %d times, want %d", name, got, n)
			}
		}
	})
}

func (c *testbed) wantNoApproval() {
	c.t.Helper()
	c.eventually("no approval is left", func() bool {
		var nodes v1alpha1.RegistryNodeList
		if err := c.List(c.t.Context(), &nodes); err != nil {
			c.t.Fatal(err)
		}
		return !slices.ContainsFunc(nodes.Items, func(n v1alpha1.RegistryNode) bool { return n.Spec.ApprovedRestart != "" })
	})
}

// TestBackToLegacy deletes the layout's Secret. In Direct it is made again, and
// nodes do nothing. In Unmanaged it is the order to go back to the legacy format,
// which needs a restart on 1.x. A later switch checks the nodes again.
func TestBackToLegacy(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.v1("worker")
	c.begin()
	c.switchTo(c.upstreamA())
	published := c.layout()
	c.delete(c.secret(v1alpha1.SecretLayout))
	c.eventually("the Secret is made again", func() bool { return c.secret(v1alpha1.SecretLayout) != nil })
	if again := c.layout(); again.Generation != published.Generation || !again.SameContent(published) {
		t.Errorf("made again otherwise: %v", again)
	}
	if rn := c.registryNode("worker"); rn.Spec.Legacy || rn.Status.Legacy {
		t.Error("a node was ordered back in Direct")
	}

	c.ask(unmanaged)
	c.reaches(switchover.Unmanaged, c.upstreamA())
	c.sim.set(func(s *simulator) { s.v1["worker"].staysRunning = true })
	c.delete(c.secret(v1alpha1.SecretLayout))
	v := c.until("the return is told", func(v view) bool {
		m := v.condition(v1alpha1.ConditionFinal).Message
		return strings.Contains(m, "Cleaning Managed configuration...\n1/2 node(s) ready. Waiting:\n- worker: ") &&
			strings.Contains(m, "containerd restarts: 1 of 1 nodes: worker (Running)\n")
	})
	if v.condition(v1alpha1.ConditionFinal).Status != metav1.ConditionFalse || v.condition(v1alpha1.ConditionReady).Status != metav1.ConditionFalse ||
		v.mode != "Unmanaged" || v.target != "Unmanaged" {
		t.Errorf("on the way: %v", v)
	}
	c.sim.set(func(s *simulator) { s.v1["worker"].staysRunning = false })
	c.until("it has returned", func(v view) bool { return v.ready(switchover.Unmanaged) && v.doc.Desired.Legacy })
	c.wantRestarts(map[string]int{"worker": 2})
	c.wantNoApproval()
	if c.secret(v1alpha1.SecretLayout) != nil {
		t.Error("the Secret came back")
	}
	c.eventually("no node shows a version", func() bool {
		var node corev1.Node
		return c.Get(t.Context(), keyOf("worker"), &node) == nil && node.Annotations[v1alpha1.AnnotationVersion] == "unknown"
	})

	words := `/etc/containerd/conf.d/auth.toml:2: plugins."io.containerd.grpc.v1.cri".registry.configs: move it to /etc/containerd/registry.d`
	c.sim.set(func(s *simulator) { s.nodes["worker"], s.messages["worker"] = "Custom", words })
	c.eventually("the node is labelled", func() bool {
		var node corev1.Node
		return c.Get(t.Context(), keyOf("worker"), &node) == nil && node.Labels[v1alpha1.LabelContainerdConfig] == "custom"
	})
	if v := c.state(); !v.ready(switchover.Unmanaged) {
		t.Errorf("a configuration of the user's matters in the legacy format: %v", v)
	}
	c.ask(settingsOf(c.upstreamB()))
	c.until("the preflight names the node", func(v view) bool {
		return v.condition(v1alpha1.ConditionPreflight).Message == "Check current nodes configuration\n1/2 node(s) Unready:\n"+
			"- worker: has custom toml merge containerd configuration: "+words+"\n"
	})
	c.sim.set(func(s *simulator) { delete(s.nodes, "worker"); delete(s.messages, "worker") })
	c.reaches(switchover.Direct, c.upstreamB())
	c.wantRestarts(map[string]int{"worker": 3})
}
