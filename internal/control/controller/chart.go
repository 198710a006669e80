package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/fieldowner"
	"github.com/d8-registry/registry/internal/layout"
)

// applyChart looks after what came with the chart and is written by both, Helm
// and us.
func (r *Reconciler) applyChart(ctx context.Context, s *sight, doc document) error {
	if err := r.healUninstall(ctx, s, doc); err != nil {
		return err
	}
	return r.leaveToChart(ctx, s)
}

// leaveToChart gives up the fields of our own Deployment that we changed: Helm
// applies it at every upgrade, and would be refused them. It is asked in every
// pass, so that a crash between the change and this does no harm.
func (r *Reconciler) leaveToChart(ctx context.Context, s *sight) error {
	w, ok := s.controller()
	if !ok {
		return nil
	}
	release, err := fieldowner.Release(w, string(owner))
	if err != nil || release == nil {
		return err //nolint:wrapcheck // nil but for a patch that cannot be encoded
	}
	object, ok := w.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%s is no object", w)
	}
	err = r.client.Patch(ctx, object, release, owner)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return errLost
	}
	if err != nil {
		return fmt.Errorf("leave %s to the chart: %w", w, err)
	}
	return nil
}

// ownMoves is what the controller's Deployment should name instead. Whatever it
// names now, even a registry that was forgotten long ago: `helm rollback` puts
// back the image of then. What its own argument says is the part that stays.
func ownMoves(w workload, bases []layout.Name, own layout.Name) moves {
	m := rebase(&w.template.Spec, bases, own)
	for i := range w.template.Spec.Containers {
		c := &w.template.Spec.Containers[i]
		for _, arg := range c.Args {
			if image, ok := strings.CutPrefix(arg, "--image="); ok && strings.HasSuffix(c.Image, image) && c.Image != own.Reference(image) {
				m.containers[c.Name] = own.Reference(image)
			}
		}
	}
	return m
}

// isUninstall reports whether a pod is the chart's that takes the module out of
// the cluster.
func isUninstall(pod *corev1.Pod) bool {
	return pod.Namespace == v1alpha1.Namespace && pod.Name == v1alpha1.PodUninstall
}

// healUninstall gives that Pod an image that can be had. Helm keeps it as it was
// at the last upgrade, with the registry of then; a container that has begun is
// left alone.
func (r *Reconciler) healUninstall(ctx context.Context, s *sight, doc document) error {
	if doc.Desired.Own.IsZero() {
		return nil
	}
	for i := range s.inv.pods {
		pod := &s.inv.pods[i]
		image := r.ownImage(doc)
		if !isUninstall(pod) || !waitsForImage(pod) || pod.DeletionTimestamp != nil || pod.Spec.Containers[0].Image == image {
			continue
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": pod.UID},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": pod.Spec.Containers[0].Name, "image": image}}},
		})
		if err != nil {
			return fmt.Errorf("encode patch: %w", err)
		}
		object := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
		err = r.client.Patch(ctx, object, client.RawPatch(types.StrategicMergePatchType, patch), owner)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return errLost
		}
		if err != nil {
			return fmt.Errorf("re-point Pod %s: %w", key(pod), err)
		}
		r.log.Info("the uninstallation's image is re-pointed", "base", doc.Desired.Own.Base())
	}
	return nil
}
