package component

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
)

// A switch leaves the agents' pods alone: they go on running under the address
// that they were made with. On a node whose disk is made anew such a pod has to
// be pulled again, by an address that may be gone, while nothing routes it yet:
// it is the router. So it is deleted, and made anew from the present address.

// stuckOnOldImage are the agents that cannot be pulled and would be pulled from
// elsewhere if they were made now.
func stuckOnOldImage(v *state.View) []*corev1.Pod {
	ds := v.OwnDaemonSet(v1alpha1.DaemonSetAgent)
	if ds == nil || v.Doc.Desired.Own.IsZero() || !onBase(v, &ds.Spec.Template.Spec) {
		return nil
	}
	var pods []*corev1.Pod
	for _, pod := range agentPods(v) {
		if pod.DeletionTimestamp == nil && cluster.ImagePullFailed(pod) && !onBase(v, &pod.Spec) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// ReplaceStuck deletes them. They serve nobody: it waits for nothing.
func (k *Keeper) ReplaceStuck(ctx context.Context, v *state.View) error {
	for _, pod := range stuckOnOldImage(v) {
		if err := k.cluster.DeleteSeen(ctx, pod); err != nil {
			return fmt.Errorf("replace Pod %s, whose image is at an address of before: %w", cluster.Key(pod), err)
		}
		k.cluster.Log.Info("an agent whose image cannot be pulled is made anew from the present address", "node", pod.Spec.NodeName, "pod", pod.Name)
	}
	return nil
}
