package component

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
)

// ApplyChart looks after what came with the chart and is written by both, Helm
// and us.
func (k *Keeper) ApplyChart(ctx context.Context, v *state.View) error {
	if err := k.repointUninstall(ctx, v); err != nil {
		return err
	}
	return k.releaseFields(ctx, v)
}

// leaveToChart gives up the fields of our own Deployment that we changed: Helm
// applies it at every upgrade, and would be refused them. It is asked in every
// pass, so that a crash between the change and this does no harm.
func (k *Keeper) releaseFields(ctx context.Context, v *state.View) error {
	w, ok := controllerOf(v)
	if !ok {
		return nil
	}
	release, err := cluster.Release(w, string(cluster.Owner))
	if err != nil || release == nil {
		return err //nolint:wrapcheck // nil but for a patch that cannot be encoded
	}
	if err := k.cluster.PatchSeen(ctx, w.Object, release); err != nil {
		return fmt.Errorf("leave %s to the chart: %w", w, err)
	}
	return nil
}

// controllerOf is the Deployment that this process runs in, if there is one.
func controllerOf(v *state.View) (cluster.Workload, bool) {
	for _, w := range v.Inventory.Workloads() {
		if w.Own && w.GetName() == v1alpha1.DeploymentController {
			return w, true
		}
	}
	return cluster.Workload{}, false
}

// moveController re-points this very process, once the registry has its image.
func (k *Keeper) moveController(ctx context.Context, v *state.View) error {
	w, ok := controllerOf(v)
	if !ok {
		return nil
	}
	moves := k.controllerMoves(v, w)
	if moves.None() || !k.imageThere(ctx, v) {
		return nil
	}
	k.cluster.Log.Info("the controller re-points itself", "base", v.Doc.Desired.Own.Base())
	if err := k.cluster.Repoint(ctx, w, cluster.Repointing{Moves: moves, Switch: v.Doc.Switch}); err != nil {
		return fmt.Errorf("re-point %s: %w", w, err)
	}
	return nil
}

// controllerMoves is what the controller's Deployment should name instead.
// Nothing where it is not ours to re-point: it is listed then, and not waited
// for.
func (k *Keeper) controllerMoves(v *state.View, w cluster.Workload) cluster.Moves {
	if w.NotOurs(v.KnownNames()) != "" {
		return cluster.Moves{}
	}
	return ownMoves(w, v.KnownNames(), layout.NameOf(v.Doc.Desired.Own))
}

// Skipped is the controller's own Deployment, which came with the chart, and why
// it is not ours to re-point; false when it is or need not be.
func (k *Keeper) Skipped(v *state.View) (w cluster.Workload, why string, skipped bool) {
	w, ok := controllerOf(v)
	if !ok || v.Doc.Desired.Own.IsZero() || ownMoves(w, v.KnownNames(), layout.NameOf(v.Doc.Desired.Own)).None() {
		return w, "", false
	}
	why = w.NotOurs(v.KnownNames())
	return w, why, why != ""
}

// ownMoves is what the controller's Deployment should name instead. Whatever it
// names now, even a registry that was forgotten long ago: `helm rollback` puts
// back the image of then. What its own argument says is the part that stays.
func ownMoves(w cluster.Workload, names []layout.Name, own layout.Name) cluster.Moves {
	m := cluster.Rebase(&w.Template.Spec, names, own)
	for i := range w.Template.Spec.Containers {
		c := &w.Template.Spec.Containers[i]
		for _, arg := range c.Args {
			if image, ok := strings.CutPrefix(arg, "--image="); ok && strings.HasSuffix(c.Image, image) && c.Image != own.Reference(image) {
				m.Containers[c.Name] = own.Reference(image)
			}
		}
	}
	return m
}

// healUninstall gives that Pod an image that can be had. Helm keeps it as it was
// at the last upgrade, with the registry of then; a container that has begun is
// left alone.
func (k *Keeper) repointUninstall(ctx context.Context, v *state.View) error {
	if v.Doc.Desired.Own.IsZero() {
		return nil
	}
	for i := range v.Inventory.Pods {
		pod := &v.Inventory.Pods[i]
		image := ownReference(v.Doc, k.cfg.Image)
		if !cluster.IsUninstall(pod) || !cluster.WaitsForImage(pod) || pod.DeletionTimestamp != nil || pod.Spec.Containers[0].Image == image {
			continue
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": pod.UID},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": pod.Spec.Containers[0].Name, "image": image}}},
		})
		if err != nil {
			return fmt.Errorf("encode patch: %w", err)
		}
		err = k.cluster.PatchSeen(ctx, pod, client.RawPatch(types.StrategicMergePatchType, patch))
		if errors.Is(err, cluster.ErrLost) {
			return err
		}
		if err != nil {
			return fmt.Errorf("re-point Pod %s: %w", cluster.Key(pod), err)
		}
		k.cluster.Log.Info("the uninstallation's image is re-pointed", "base", v.Doc.Desired.Own.Base())
	}
	return nil
}
