package agent_test

import (
	"os"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestBackToLegacy: Unmanaged, then the user deletes the layout's Secret. The
// node ends as it was before the first layout, and a later one works again.
func TestBackToLegacy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	w.start()
	name := layout.NameOf(a)
	w.generation = 4
	w.publishLayout(layout.Layout{
		Schema: layout.Schema, Generation: 4, Mode: "Unmanaged", Active: a, Target: a,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), name}, []upstream.Upstream{a}),
	})
	w.reported()

	w.must(w.api.Client().Delete(t.Context(), w.secret))
	w.secret = nil
	s := w.until("the word about the Secret", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Message != "" })
	if s.Generation != 4 || s.Legacy {
		t.Errorf("without an order the last good layout stays: %+v", s)
	}
	w.must(w.pull(layout.Fixed().Reference("app:v1")))

	var own registryv1alpha1.RegistryNode
	w.must(w.api.Client().Get(t.Context(), client.ObjectKey{Name: w.name}, &own))
	own.Spec.Legacy = true
	w.must(w.api.Client().Update(t.Context(), &own))
	s = w.until("the legacy format", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Legacy })
	if s.Generation != 0 || s.Version != "" || len(s.Redirects) != 0 || s.Message != "" {
		t.Errorf("%+v", s)
	}
	if left, err := os.ReadDir(w.containerd.HostsDir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// Agents that start again find no state, and need none.
	w.stopNode()
	w.stopServe()
	w.start()

	// The order is taken back after the layout is published: the layout wins.
	w.publish(a, []layout.Name{layout.Fixed(), name})
	if s := w.reported(); s.Legacy || s.Message != "" {
		t.Errorf("a later layout: %+v", s)
	}
	w.must(w.pull(layout.Fixed().Reference("app:v1")))
}
