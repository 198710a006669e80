package agent

import (
	"testing"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
)

// TestRevertOrder is who obeys the order back to the legacy format.
func TestRevertOrder(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		order     bool
		published bool
		spec      int64
		mode      string
		saved     int64
		want      bool
	}{
		"Unmanaged and ordered":             {order: true, mode: "Unmanaged", saved: 5, want: true},
		"of the very generation":            {order: true, spec: 5, mode: "Unmanaged", saved: 5, want: true},
		"not ordered":                       {mode: "Unmanaged", saved: 5},
		"something is published":            {order: true, published: true, mode: "Unmanaged", saved: 5},
		"Direct":                            {order: true, mode: "Direct", saved: 5},
		"Direct, of that generation":        {order: true, spec: 5, mode: "Direct", saved: 5},
		"Direct, but it was away":           {order: true, spec: 7, mode: "Direct", saved: 5, want: true},
		"an order older than the layout":    {order: true, spec: 4, mode: "Unmanaged", saved: 5},
		"an order older than Direct's":      {order: true, spec: 4, mode: "Direct", saved: 5},
		"away, and something was published": {order: true, published: true, spec: 7, mode: "Direct", saved: 5},
	} {
		own := &registryv1alpha1.RegistryNode{Spec: registryv1alpha1.RegistryNodeSpec{Legacy: row.order, Generation: row.spec}}
		l := layout.Layout{Mode: row.mode, Generation: row.saved}
		if got := revertOrdered(own, l, handoff.Status{Absent: !row.published, Generation: row.saved}); got != row.want {
			t.Errorf("%s: %t, want %t", name, got, row.want)
		}
	}
	if revertOrdered(nil, layout.Layout{Mode: "Unmanaged"}, handoff.Status{Absent: true}) {
		t.Error("obeyed without a RegistryNode")
	}
}
