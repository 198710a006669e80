package controller

import (
	"net/http"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// stops say how to stop a switch to Direct on B at a step, and how to release it.
var stops = []struct {
	step          string
	stop, release func(*testbed)
}{
	{v1alpha1.ConditionImages,
		func(c *testbed) { c.b.SetFaults(testregistry.Faults{Status: http.StatusServiceUnavailable}) },
		func(c *testbed) { c.b.SetFaults(testregistry.Faults{}) }},
	{v1alpha1.ConditionPreflight,
		func(c *testbed) {
			c.sim.set(func(s *simulator) { s.nodes["worker"] = "Custom" })
			c.eventually("it is reported", func() bool { return c.registryNode("worker").Status.Preflight == "Custom" })
		},
		func(c *testbed) {
			c.sim.set(func(s *simulator) { delete(s.nodes, "worker") })
			c.eventually("it is reported", func() bool { return c.registryNode("worker").Status.Preflight == "Ready" })
		}},
	{v1alpha1.ConditionTransition,
		func(c *testbed) { c.sim.set(func(s *simulator) { s.silent["worker"] = true }) },
		func(c *testbed) { c.sim.set(func(s *simulator) { delete(s.silent, "worker") }) }},
	{v1alpha1.ConditionProxy,
		func(c *testbed) {
			c.sim.set(func(s *simulator) { s.stuck[v1alpha1.DeploymentProxy] = true })
			// Otherwise the switch may pass the step before the pod is not ready.
			c.eventually("the proxy is away", func() bool {
				var d appsv1.Deployment
				err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DeploymentProxy}, &d)
				return apierrors.IsNotFound(err) || err == nil && d.Status.AvailableReplicas == 0
			})
		},
		func(c *testbed) { c.sim.set(func(s *simulator) { delete(s.stuck, v1alpha1.DeploymentProxy) }) }},
	{v1alpha1.ConditionSwitch,
		func(c *testbed) { c.sim.set(func(s *simulator) { s.stuck["node-exporter"] = true }) },
		func(c *testbed) { c.sim.set(func(s *simulator) { delete(s.stuck, "node-exporter") }) }},
	{v1alpha1.ConditionFinal,
		func(c *testbed) { c.sim.set(func(s *simulator) { s.stuck["deckhouse"] = true }) },
		func(c *testbed) { c.sim.set(func(s *simulator) { delete(s.silent, "worker") }) }},
}

// reachStep asks for Direct on B, and waits until the switch waits at a step.
func (c *testbed) reachStep(i int) {
	c.t.Helper()
	at := stops[i]
	at.stop(c)
	c.ask(settingsOf(c.upstreamB()))
	if at.step == v1alpha1.ConditionFinal {
		// From here only Final waits for agents.
		c.until("the switch has begun", func(v view) bool { return c.waitsAt(v, v1alpha1.ConditionSwitch) })
		c.sim.set(func(s *simulator) { s.silent["worker"] = true; delete(s.stuck, "deckhouse") })
	}
	c.until("it waits at "+at.step, func(v view) bool { return c.waitsAt(v, at.step) })
}

// waitsAt reports whether the switch to B has come to a step.
func (c *testbed) waitsAt(v view, step string) bool {
	if v.doc.Target.Upstream != c.upstreamB() {
		return false
	}
	for _, condition := range v.conditions {
		if condition.Type == step {
			return condition.Status == metav1.ConditionFalse
		}
		if condition.Status != metav1.ConditionTrue {
			return false
		}
	}
	return false
}

// TestAChangeOfMindAtEachStep asks for Direct on B and goes back at each step, to
// Unmanaged and to Direct on A.
func TestAChangeOfMindAtEachStep(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(nil)
	a := c.upstreamA()
	c.reaches(switchover.Unmanaged, a)
	for _, from := range []struct {
		mode switchover.Mode
		spec string
		name layout.Name
	}{
		{switchover.Unmanaged, unmanaged, layout.NameOf(a)},
		{switchover.Direct, settingsOf(a), layout.Fixed()},
	} {
		c.ask(from.spec)
		c.reaches(from.mode, a)
		for i, at := range stops {
			if from.mode == switchover.Direct && at.step == v1alpha1.ConditionPreflight {
				continue // the step cannot stop: nodes have our configuration
			}
			t.Logf("back to %s at %s", from.mode, at.step)
			if at.step == v1alpha1.ConditionPreflight && !c.layout().IsZero() {
				continue // the same
			}
			c.reachStep(i)
			c.ask(from.spec)
			if at.step != v1alpha1.ConditionImages {
				at.release(c)
			}
			c.reaches(from.mode, a)
			at.release(c)
			c.wantImages(from.name)
			if from.mode == switchover.Unmanaged {
				c.wantRegistry(a.Base())
			} else {
				c.wantRegistry(from.name.String())
			}
			c.wantNothingOf(c.upstreamB().Host)
		}
	}
	c.wantHistory()
}

// wantNothingOf fails if nodes still read of a registry.
func (c *testbed) wantNothingOf(host string) {
	c.t.Helper()
	for _, u := range c.layout().Upstreams() {
		if u.Host == host {
			c.t.Errorf("the layout still has %s", u)
		}
	}
}

// wantHistory checks every layout that agents saw: it is valid, and generations
// only grow.
func (c *testbed) wantHistory() {
	c.t.Helper()
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	for i, l := range c.sim.history {
		if i > 0 && l.Generation <= c.sim.history[i-1].Generation {
			c.t.Errorf("generation %d follows %d", l.Generation, c.sim.history[i-1].Generation)
		}
		if err := l.Validate(); err != nil {
			c.t.Errorf("generation %d: %v", l.Generation, err)
		}
	}
}

// TestALostStateIsRebuiltAtEachStep deletes Secret registry-state, or replaces it by
// an older copy, at each step of a switch.
func TestALostStateIsRebuiltAtEachStep(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(nil)
	a, b := c.upstreamA(), c.upstreamB()
	c.reaches(switchover.Unmanaged, a)
	c.switchTo(a)
	older := c.secret(v1alpha1.SecretState)
	for _, restore := range []bool{false, true} {
		for i, at := range stops {
			if at.step == v1alpha1.ConditionPreflight {
				continue
			}
			t.Logf("restored %v, at %s", restore, at.step)
			c.reachStep(i)
			before := c.layout()
			seen := len(c.sim.layouts())
			identity := c.state().doc.PKI.CA
			c.lose(restore, older)
			at.release(c)
			v := c.reaches(switchover.Direct, b)
			if v.doc.PKI.CA != identity {
				t.Error("the CA was made anew")
			}
			c.wantImages(layout.Fixed())
			for _, l := range c.sim.layouts()[seen:] {
				if len(l.Upstreams()) > 1 && !l.Covers(before) {
					t.Errorf("generation %d lacks something of generation %d: %v, before %v", l.Generation, before.Generation, l.Routes, before.Routes)
				}
			}
			c.switchTo(a)
			older = c.secret(v1alpha1.SecretState)
		}
	}
	c.wantHistory()
}

func (s *simulator) layouts() []layout.Layout {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]layout.Layout(nil), s.history...)
}

// lose deletes the state, or restores an older one, while the controller runs.
func (c *testbed) lose(restore bool, older *corev1.Secret) {
	c.t.Helper()
	if !restore {
		if err := c.Delete(c.t.Context(), c.secret(v1alpha1.SecretState)); err != nil {
			c.t.Fatal(err)
		}
		return
	}
	for {
		now := c.secret(v1alpha1.SecretState)
		now.Data = older.Data
		if c.Update(c.t.Context(), now) == nil {
			return
		}
	}
}
