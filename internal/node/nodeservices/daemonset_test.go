package nodeservices

import (
	"maps"
	"testing"
)

// TestAnotherPodServes: the static pod goes alone, and can come again.
func TestAnotherPodServes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.signed(some())
	h.apply(c)
	before := h.tree()
	for range 2 { // the second time there is nothing
		must(t, h.RemoveManifest())
		if f := h.look(c); h.static() != nil || f.State != Differs || len(h.tree()) != len(before)-1 {
			t.Errorf("%+v, %v", f, h.tree())
		}
	}
	if f := h.apply(c); f.State != Written || !maps.Equal(h.tree(), before) {
		t.Errorf("%+v, %v", f, h.tree())
	}
	must(t, New(h.root, "").RemoveManifest())
	if !maps.Equal(h.tree(), before) {
		t.Errorf("without a folder: %v", h.tree())
	}
}

// TestWithoutStaticPods: all but the manifest is there, for the pod of a DaemonSet.
func TestWithoutStaticPods(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.Keeper = New(h.root, "")
	if f := h.apply(h.signed(some())); f.State != Written || f.Hash != "" || h.static() != nil {
		t.Errorf("%+v", f)
	}
	if err := h.Remove(); err != nil {
		t.Error(err)
	}
}
