package component

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
)

// A switch changes where the image of agent and proxy is from; an upgrade of
// the module changes anything else of their templates. The two are told apart by
// a revision on the template, made of what this version of the module wants
// with the image below the registry's base. While a switch is under way a
// template of another revision is kept as it is but for the base: an older
// program is not started with arguments that it does not know. Once Ready, the
// new template is written, and the pods of others, which the DaemonSet leaves
// alone, are deleted a few at a time. Nothing of this is stored: a new leader
// finds templates, pods and reports as they are. An upgrade that failed can be
// undone at any time, see undoes. See docs/adr/0011.

// mayUpgrade reports whether our own templates may change in more than what
// the present switch asks for.
func mayUpgrade(doc state.Document) bool { return doc.Ready() }

// ownTemplate is what one of our own templates should be now: what this version
// wants, or what is there under the base that is wanted.
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
				return want // somebody else wrote it
			}
			list[i].Image = base.Reference(rest)
		}
	}
	return kept
}

// templateBeforeTurn is what the template of a First one that is there should be
// before its turn to move has come.
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

// keepImages keeps the images that a template has.
func keepImages(want, have *corev1.PodSpec) {
	for i := range want.Containers {
		for j := range have.Containers {
			if want.Containers[i].Name == have.Containers[j].Name {
				want.Containers[i].Image = have.Containers[j].Image
			}
		}
	}
}

// undoes reports whether the wanted template takes back an upgrade that failed,
// or that had only begun: its version runs, or that of the template which is there
// runs nowhere. The switch under way may be waiting for just this, and a version
// that runs already is given no argument that it does not know.
func undoes(v *state.View, want, have corev1.PodTemplateSpec) bool {
	wanted, there := revisionOf(&want), revisionOf(&have)
	if wanted == there {
		return false
	}
	runs, failed := map[string]bool{}, false
	for i := range v.Inventory.Pods {
		pod := &v.Inventory.Pods[i]
		if pod.Namespace != v1alpha1.Namespace || pod.Labels[cluster.LabelApp] != want.Labels[cluster.LabelApp] || pod.DeletionTimestamp != nil {
			continue
		}
		revision := revisionOf(pod)
		runs[revision] = runs[revision] || cluster.PodReady(pod)
		failed = failed || revision == there && cluster.WaitingReason(pod) != ""
	}
	return runs[wanted] || failed && !runs[there]
}
