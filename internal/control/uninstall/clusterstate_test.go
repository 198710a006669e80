package uninstall

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// TestWhenItIsRefused: everywhere but in Unmanaged and Ready, or before any switch.
func TestWhenItIsRefused(t *testing.T) {
	t.Parallel()
	// doc is a state that is Ready, or waits at Final, on the way from active to target.
	doc := func(active, target switchover.Mode, ready bool) *state.Document {
		d := &state.Document{}
		d.Active.Mode, d.Target.Mode = active, target
		d.Desired.Layout = layout.Layout{Schema: 1, Generation: 1}
		final := metav1.Condition{Type: v1alpha1.ConditionFinal, Status: metav1.ConditionFalse, Message: "1/2 node(s) ready\n"}
		whole := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse}
		if ready {
			final.Status, whole.Status = metav1.ConditionTrue, metav1.ConditionTrue
		}
		d.Conditions = []metav1.Condition{final, whole}
		return d
	}
	legacy := doc(switchover.Unmanaged, switchover.Unmanaged, false)
	legacy.Desired.Legacy = true
	returned := doc(switchover.Unmanaged, switchover.Unmanaged, true)
	returned.Desired.Legacy = true
	published := &corev1.Secret{}
	for name, c := range map[string]struct {
		state    clusterState
		refused  string // a part of the reason; empty: it may begin
		reverted bool
	}{
		"nothing":                       {clusterState{}, "", true},
		"a lost state":                  {clusterState{layout: published}, "is missing", false},
		"no switch has begun":           {clusterState{doc: &state.Document{}}, "", true},
		"Direct":                        {clusterState{doc(switchover.Direct, switchover.Direct, true), published}, "mode Direct. Set", false},
		"on the way back":               {clusterState{doc(switchover.Direct, switchover.Unmanaged, false), published}, "from mode Direct to Unmanaged and not there yet: FinalContainerdConfigReady: 1/2 node(s) ready;", false},
		"not Ready":                     {clusterState{doc(switchover.Unmanaged, switchover.Unmanaged, false), published}, "mode Unmanaged is not Ready yet: FinalContainerdConfigReady: 1/2", false},
		"Unmanaged and Ready":           {clusterState{doc(switchover.Unmanaged, switchover.Unmanaged, true), published}, "", false},
		"nodes go back to legacy":       {clusterState{legacy, nil}, "", false},
		"nodes have returned to legacy": {clusterState{returned, nil}, "", true},
	} {
		err := c.state.refusal()
		if (err == nil) != (c.refused == "") || err != nil && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v, want %q", name, err, c.refused)
		}
		if got := c.state.reverted(); got != c.reverted {
			t.Errorf("%s: reverted is %v", name, got)
		}
	}
}
