package component

import (
	"context"
	"fmt"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
)

// A switch does not restart agents: their pods keep the image address that they
// were made with. If the node's disk is erased, the image must be pulled again. The
// address may be gone, and no agent runs that could serve it. So the pod is
// deleted, and the DaemonSet makes a new one with the present address.

// stuckOnOldImage are the agents that cannot be pulled, and whose DaemonSet has
// another image address now.
func stuckOnOldImage(v *state.View) []*excerpt.Pod {
	ds := agentWorkload(v)
	if ds == nil || v.Doc.Desired.Own.IsZero() || !onBase(v, excerpt.Images(&ds.Template.Spec)) {
		return nil
	}
	var pods []*excerpt.Pod
	for _, pod := range agentPods(v) {
		if pod.GetDeletionTimestamp() == nil && pod.ImagePullFailed() && !onBase(v, pod.Images) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// ReplaceStuck deletes agents that are stuck on an old image. They serve nobody, so
// this does not wait for anything.
func (k *Keeper) ReplaceStuck(ctx context.Context, v *state.View) error {
	for _, pod := range stuckOnOldImage(v) {
		deleted, err := k.cluster.DeleteSeen(ctx, pod.Object())
		if err != nil {
			return fmt.Errorf("replace Pod %s, whose image is at an address of before: %w", cluster.Key(pod), err)
		}
		if deleted {
			k.cluster.Log.Info("an agent whose image cannot be pulled is replaced by one with the present address", "node", pod.Node, "pod", pod.Name)
		}
	}
	return nil
}
