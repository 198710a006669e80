package component

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
)

// ApplyChart writes what both Helm and the controller write: the controller's
// Deployment and the Pod of helm uninstall.
func (k *Keeper) ApplyChart(ctx context.Context, v *state.View) error {
	if err := k.repointUninstall(ctx, v); err != nil {
		return err
	}
	return k.releaseFields(ctx, v)
}

// releaseFields gives up the fields of the controller's Deployment that we changed.
// Otherwise Helm, which applies the Deployment at every upgrade, would get a
// conflict. It is done in every pass, so that a crash after the change does no
// harm.
func (k *Keeper) releaseFields(ctx context.Context, v *state.View) error {
	w := controllerOf(v)
	if w == nil {
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

// controllerOf is the controller's own Deployment; nil when there is none.
func controllerOf(v *state.View) *cluster.Workload {
	return v.Inventory.OwnWorkload("Deployment", v1alpha1.DeploymentController)
}

// moveController re-points the Deployment of this process, when the registry has
// its image.
func (k *Keeper) moveController(ctx context.Context, v *state.View) error {
	moves := controllerMoves(v)
	if moves.None() || !k.imageThere(ctx, v) {
		return nil
	}
	w := controllerOf(v)
	k.cluster.Log.Info("the controller re-points itself", "base", v.Doc.Desired.Own.Base())
	if err := k.cluster.Repoint(ctx, *w, cluster.Repointing{Moves: moves, Switch: v.Doc.Switch}); err != nil {
		return fmt.Errorf("re-point %s: %w", w, err)
	}
	return nil
}

// controllerMoves is which images the controller's Deployment should name instead.
// It is empty if we must not re-point it: see Skipped.
func controllerMoves(v *state.View) cluster.Moves {
	w := controllerOf(v)
	if w == nil || w.NotOurs(v.KnownNames()) != "" {
		return cluster.Moves{}
	}
	return ownMoves(*w, v.KnownNames(), layout.NameOf(v.Doc.Desired.Own))
}

// Skipped is the controller's own Deployment and why we must not re-point it; nil
// if we may, or if nothing is to be done.
func (k *Keeper) Skipped(v *state.View) (w *cluster.Workload, why string) {
	w = controllerOf(v)
	if w == nil || v.Doc.Desired.Own.IsZero() || ownMoves(*w, v.KnownNames(), layout.NameOf(v.Doc.Desired.Own)).None() {
		return nil, ""
	}
	if why = w.NotOurs(v.KnownNames()); why == "" {
		return nil, ""
	}
	return w, why
}

// ownMoves is which images the controller's Deployment should name instead. The
// present image may be from a registry that nobody knows any more, because `helm
// rollback` puts an old image back. So it is compared with the argument --image.
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

// repointUninstall gives the Pod of helm uninstall an image that can be pulled. Helm
// makes it as it was at the last upgrade, and its registry may be gone. A container
// that has started is not changed.
func (k *Keeper) repointUninstall(ctx context.Context, v *state.View) error {
	if v.Doc.Desired.Own.IsZero() {
		return nil
	}
	image := ownReference(v.Doc, k.cfg.Image)
	for pod := range v.Inventory.OwnPods() {
		container, waits := pod.WaitsForImage()
		if !pod.IsUninstall() || !waits || pod.GetDeletionTimestamp() != nil || slices.Contains(pod.Images, image) {
			continue
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": pod.GetUID()},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": container, "image": image}}},
		})
		if err != nil {
			return fmt.Errorf("encode patch: %w", err)
		}
		if err := k.cluster.PatchSeen(ctx, pod.Object(), client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
			return fmt.Errorf("re-point Pod %s: %w", cluster.Key(pod), err)
		}
		k.cluster.Log.Info("the Pod of helm uninstall is re-pointed", "base", v.Doc.Desired.Own.Base())
	}
	return nil
}
