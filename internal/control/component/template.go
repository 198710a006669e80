package component

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
)

// A switch changes the registry that the images of agent and proxy are from. An
// upgrade of the module changes other parts of their templates. A revision on the
// template, which does not depend on the registry, tells one from the other.
//
// During a switch, a template of another revision is kept, and only its registry
// changes: an older program must not get arguments that it does not know. When the
// cluster is Ready, the new template is written, and agents of other revisions,
// which the DaemonSet does not replace by itself, are deleted a few at a time. An
// upgrade that failed can be undone at any time, see undoes.
//
// Nothing of this is stored: a new leader sees templates, pods and reports. See
// docs/adr/0011.

// mayUpgrade reports whether more of our own templates may change than what a
// switch needs.
func mayUpgrade(doc state.Document) bool { return doc.Ready() }

// ownTemplate is what one of our own templates should be now: want, which is what
// this version of the module wants, or have with images of the wanted registry.
func (k *Keeper) ownTemplate(ctx context.Context, v *state.View, want, have corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	if revisionOf(&want) == revisionOf(&have) || mayUpgrade(v.Doc) && k.imageThere(ctx, v) || undoes(v, want, have) {
		return want
	}
	base := layout.NameOf(v.Doc.Desired.Own)
	kept := *have.DeepCopy()
	for _, list := range [][]corev1.Container{kept.Spec.InitContainers, kept.Spec.Containers} {
		for i := range list {
			_, rest, known := layout.MatchName(ownNames(v), list[i].Image)
			if !known {
				return want // the image is not ours
			}
			list[i].Image = base.Reference(rest)
		}
	}
	return kept
}

// templateBeforeTurn is what the template of a First component should be before
// the component moves to another registry.
func (k *Keeper) templateBeforeTurn(ctx context.Context, v *state.View, want, have corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	same := revisionOf(&have) == revisionOf(&want)
	switch {
	case mayUpgrade(v.Doc) && (same || k.imageThere(ctx, v)):
	case same:
		keepImages(&want.Spec, &have.Spec)
	case undoes(v, want, have):
	default:
		return *have.DeepCopy()
	}
	return want
}

// keepImages puts the images of have into want.
func keepImages(want, have *corev1.PodSpec) {
	for i := range want.Containers {
		for j := range have.Containers {
			if want.Containers[i].Name == have.Containers[j].Name {
				want.Containers[i].Image = have.Containers[j].Image
			}
		}
	}
}

// undoes reports whether the wanted template undoes an upgrade that failed or has
// only begun: a pod of the wanted version is Ready, or the version of the existing
// template has failed and no pod of it is Ready. This is allowed during a switch
// too, which may be waiting for it.
func undoes(v *state.View, want, have corev1.PodTemplateSpec) bool {
	wanted, there := revisionOf(&want), revisionOf(&have)
	if wanted == there {
		return false
	}
	runs, failed := map[string]bool{}, false
	for pod := range v.Inventory.OwnPods() {
		if pod.Labels[v1alpha1.LabelApp] != want.Labels[v1alpha1.LabelApp] || pod.GetDeletionTimestamp() != nil {
			continue
		}
		revision := revisionOf(pod)
		runs[revision] = runs[revision] || pod.Ready
		failed = failed || revision == there && pod.WaitingReason() != ""
	}
	return runs[wanted] || failed && !runs[there]
}
