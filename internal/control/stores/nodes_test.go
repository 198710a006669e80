package stores

import (
	"slices"
	"testing"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
)

// TestNodes: the control plane, and what the operator says.
func TestNodes(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for name, labels := range map[string]map[string]string{
		"a": {cluster.LabelControlPlane: ""}, "b": {cluster.LabelMaster: "", v1alpha1.LabelStore: "false"},
		"c": {v1alpha1.LabelStore: ""}, "worker": {v1alpha1.LabelStore: "true", v1alpha1.LabelAgent: "false"},
	} {
		f.node(name).Labels = labels
	}
	if got := Nodes(f.there); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("%q", got)
	}
}

// TestTheImageIsTheAgents: a static pod has no pull secret, and what an agent runs is there.
func TestTheImageIsTheAgents(t *testing.T) {
	t.Parallel()
	const before, other, next = "registry.example.com/d8/registry:v1", "other.example.com:5000/d8/registry:v1", "other.example.com:5000/d8/registry:v2"
	f := running(t)
	is := func(what, a, b string) {
		t.Helper()
		f.pass()
		if got := f.there.RegistryNodes["a"].Spec.Store.Image + " " + f.there.RegistryNodes["b"].Spec.Store.Image; got != a+" "+b || f.approved() != "abc" {
			t.Errorf("%s: %s, and %q may run", what, got, f.approved())
		}
	}
	f.wish.Images["a"] = other
	is("another registry", before, before)
	f.report("a", func(s *v1alpha1.StoreStatus) { s.State = v1alpha1.StoreWaiting })
	is("another registry, and the store does not run", other, before)
	f.wish.Images["a"] = ""
	is("no agent for a moment", other, before)
	f.wish.Images["b"] = next
	if f.pass(); f.there.RegistryNodes["b"].Spec.Store.Image != next || f.approved() != "ac" {
		t.Errorf("another version: %s, and %q may run", f.there.RegistryNodes["b"].Spec.Store.Image, f.approved())
	}
	delete(f.wish.Images, "c")
	f.there.RegistryNodes["c"].Spec.Store = nil
	if problems := f.pass(); f.there.RegistryNodes["c"].Spec.Store != nil || problems["c"] == nil {
		t.Errorf("no agent ever: %v", problems)
	}
}
