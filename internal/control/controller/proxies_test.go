package controller

import (
	"slices"
	"testing"

	"github.com/d8-registry/registry/internal/control/switchover"
)

// TestProxiesWanted: managed Kubernetes shows no control-plane node, and has a
// proxy all the same.
func TestProxiesWanted(t *testing.T) {
	t.Parallel()
	master := switchover.Node{Name: "m0", ControlPlane: true, Ready: true, Schedulable: true}
	cordoned := switchover.Node{Name: "m1", ControlPlane: true, Ready: true}
	lost := switchover.Node{Name: "m2", ControlPlane: true, Schedulable: true}
	worker := switchover.Node{Name: "w1", Ready: true, Schedulable: true}
	for _, c := range []struct {
		name    string
		nodes   []switchover.Node
		wanted  int
		missing []string
	}{
		{"no control plane is visible", []switchover.Node{worker, worker}, 1, nil},
		{"one per control-plane node", []switchover.Node{master, master, worker}, 2, nil},
		{"a cordoned one and a lost one are named", []switchover.Node{master, cordoned, lost}, 1, []string{"m1: SchedulingDisabled", "m2: NotReady"}},
		{"the only one is cordoned", []switchover.Node{cordoned, worker}, 1, []string{"m1: SchedulingDisabled"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wanted, missing := proxiesWanted(c.nodes)
			if wanted != c.wanted || !slices.Equal(missing, c.missing) {
				t.Errorf("%d, %q; want %d, %q", wanted, missing, c.wanted, c.missing)
			}
		})
	}
}
