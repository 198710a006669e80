package controller

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// TestReadySaysOfWhichSettings: right after an edit IsReady is still True, about the
// settings before. Who waits for the generation of the edit, as docs/operations.md says, does
// not get that answer. Settings that are refused are never followed.
func TestReadySaysOfWhichSettings(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	stop := c.begin()
	c.switchTo(c.upstreamA())
	c.eventually("it is told of these settings", func() bool {
		ready, of := c.isReady()
		return ready == metav1.ConditionTrue && of == c.settingsGeneration()
	})
	stop()
	c.ask(settingsOf(c.upstreamB()))
	if ready, of := c.isReady(); ready != metav1.ConditionTrue || of >= c.settingsGeneration() {
		t.Fatalf("the old answer is %s, of generation %d", ready, of)
	}
	c.sim.set(func(s *simulator) { s.silent["worker"] = true }) // the switch stays under way
	c.start(nil)
	c.eventually("it is told of the new ones", func() bool {
		ready, of := c.isReady()
		if of == c.settingsGeneration() && ready == metav1.ConditionTrue {
			t.Fatal("Ready of settings that nothing was done for")
		}
		return of == c.settingsGeneration()
	})
	c.sim.set(func(s *simulator) { delete(s.silent, "worker") })
	c.reaches(switchover.Direct, c.upstreamB())
	c.eventually("it is told that they are reached", func() bool {
		ready, of := c.isReady()
		return ready == metav1.ConditionTrue && of == c.settingsGeneration()
	})
	followed := c.settingsGeneration()
	c.ask("mode: Sideways")
	c.eventually("they are refused", func() bool { return strings.Contains(c.ready().Message, "Sideways") })
	if of := c.ready().SettingsGeneration; of != followed {
		t.Errorf("what is said of refused settings, of generation %d, is said of generation %d; %d is followed", c.settingsGeneration(), of, followed)
	}
}

// isReady is condition IsReady of Module registry, and which settings it speaks of.
func (c *testbed) isReady() (status metav1.ConditionStatus, of int64) {
	c.t.Helper()
	ready := c.ready()
	return ready.Status, ready.SettingsGeneration
}

// ready is condition IsReady of Module registry; zero if there is none.
func (c *testbed) ready() deckhousev1alpha1.ModuleCondition {
	c.t.Helper()
	var m deckhousev1alpha1.Module
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: v1alpha1.ModuleName}, &m); err != nil {
		c.t.Fatal(err)
	}
	for _, condition := range m.Status.Conditions {
		if condition.Type == deckhousev1alpha1.ConditionIsReady {
			return condition
		}
	}
	return deckhousev1alpha1.ModuleCondition{}
}

func (c *testbed) settingsGeneration() int64 {
	c.t.Helper()
	var config deckhousev1alpha1.ModuleConfig
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: v1alpha1.ModuleConfigName}, &config); err != nil {
		c.t.Fatal(err)
	}
	return config.Generation
}
