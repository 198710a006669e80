package component

import (
	"fmt"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
)

// Progress says, for users, what our own workloads still wait for; empty when
// nothing.
func (k *Keeper) Progress(v *state.View) string {
	if v.Doc.Desired.Own.IsZero() {
		return ""
	}
	for _, c := range k.list {
		have := c.there(v.Snapshot)
		switch {
		case !c.Wanted(v.Doc), have == nil && c.First: // another step waits for it
			continue
		case have == nil || !onBase(v, excerpt.Images(&have.Template.Spec)):
			return "Re-pointing " + c.String()
		}
		if waits := rolloutMessage(*have, c, v); waits != "" {
			return waits
		}
	}
	if !controllerMoves(v).None() {
		w := controllerOf(v)
		if k.image.missing != "" {
			return fmt.Sprintf("Re-pointing %s: its image %q is not found at %s: %s", w, k.cfg.Image, v.Doc.Desired.Own.Base(), k.image.missing)
		}
		return "Re-pointing " + w.String()
	}
	return ""
}

// rolloutMessage says, for users, what the rollout of a component waits for. It is
// empty when nothing, and for a DaemonSet, whose pods a rollout does not replace.
func rolloutMessage(w cluster.Workload, c Component, v *state.View) string {
	if c.Replicas == nil {
		return ""
	}
	wanted := c.Replicas(v.Observed)
	w.Pods.Refused = "" // there is no message for it here
	quoted := fmt.Sprintf("%s %q: ", c.Kind, c.Name)
	switch w.RolloutOf(cluster.Need{Updated: wanted, Available: w.Pods.Updated}) {
	case cluster.RolloutDone, cluster.RolloutRefused:
	case cluster.RolloutUnobserved:
		return c.Kind + " update is not yet observed by the controller"
	case cluster.RolloutNotUpdated:
		return quoted + fmt.Sprintf("%d of %d Pods have been updated to the latest specification", w.Pods.Updated, wanted)
	case cluster.RolloutOutdated:
		return quoted + fmt.Sprintf("%d outdated Pods are still running", w.Pods.Outdated)
	case cluster.RolloutNotAvailable:
		return quoted + fmt.Sprintf("%d of %d updated Pods are currently available", w.Pods.Available, w.Pods.Updated)
	}
	return ""
}

// firstRollout says which First component does not run as this version of the
// module wants it; empty when all do.
func (k *Keeper) firstRollout(v *state.View) string {
	for _, c := range k.list {
		if !c.First || !c.Wanted(v.Doc) {
			continue
		}
		have := c.there(v.Snapshot)
		if have == nil || revisionOf(have.Template) != revisionOf(k.wanted(c, v).Template) {
			return "the upgrade of " + c.Kind + " " + c.Name
		}
		if waits := rolloutMessage(*have, c, v); waits != "" {
			return waits
		}
	}
	return ""
}
