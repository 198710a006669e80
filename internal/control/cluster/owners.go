package cluster

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/layout"
)

// marks are labels and annotations by which the same tools know what is theirs.
// They count where no field manager tells: an older Argo CD applies as kubectl.
var marks = []struct{ key, tool string }{ //nolint:gochecknoglobals // a constant list
	{"argocd.argoproj.io/instance", "argocd"},
	{"argocd.argoproj.io/tracking-id", "argocd"},
	{"helm.toolkit.fluxcd.io/name", "helm-controller"},
	{"kustomize.toolkit.fluxcd.io/name", "kustomize-controller"},
}

// Spared says why a workload is neither re-pointed nor waited for; empty when
// nothing speaks against it. An operator may say so at any time.
func (w Workload) Spared() string {
	switch {
	case w.GetAnnotations()[v1alpha1.AnnotationRepoint] == "false":
		return "annotation " + v1alpha1.AnnotationRepoint + " is false"
	case w.Ignored:
		return "annotation " + v1alpha1.AnnotationIgnore + " is true"
	case w.GetDeletionTimestamp() != nil:
		return "it is being deleted"
	case w.Ending:
		return "Namespace " + w.GetNamespace() + " is being deleted"
	}
	return ""
}

// NotOurs says why a workload is not ours to re-point; empty when it is. Bases
// are the names that are known.
func (w Workload) NotOurs(bases []layout.Name) string {
	if reason := w.Spared(); reason != "" {
		return reason
	}
	for _, owner := range w.GetOwnerReferences() {
		if custom(owner.APIVersion) {
			return "it is made by " + owner.Kind + " " + owner.Name
		}
	}
	if manager := reapplierOf(w); manager != "" {
		return AppliedBy(manager)
	}
	if container := preloaded(&w.Template.Spec, bases); container != "" {
		return "imagePullPolicy of container " + container + " is Never, and nodes have its image under this name only"
	}
	return ""
}

// AppliedBy is the reason where another manager applies a workload's images.
func AppliedBy(manager string) string { return "its images are applied by " + manager }

// custom reports whether an owner of this API group writes templates of its
// own. Groups of Kubernetes itself have no dot or end in k8s.io.
func custom(apiVersion string) bool {
	group, _, found := strings.Cut(apiVersion, "/")
	return found && strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io")
}

// preloaded is a container whose image, under one of the names, the kubelet is
// told never to pull; empty when there is none.
func preloaded(spec *corev1.PodSpec, bases []layout.Name) string {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if _, _, ok := layout.MatchName(bases, c.Image); ok && c.ImagePullPolicy == corev1.PullNever {
			return c.Name
		}
	}
	return ""
}

// reapplierOf is the known re-applier of a workload's images; empty when there
// is none.
func reapplierOf(w Workload) string {
	manager, tells := reapplier(w.GetManagedFields())
	if tells {
		return manager
	}
	for _, mark := range marks {
		// An annotation that was copied from elsewhere names another object.
		if w.GetLabels()[mark.key] != "" || strings.HasSuffix(w.GetAnnotations()[mark.key], ":"+Key(w)) {
			return mark.tool
		}
	}
	return ""
}

// reapplier is the known re-applier that owns an image of a pod template, if
// any. It tells whether one has applied the object at all: what it then does
// not own, it leaves alone.
func reapplier(managed []metav1.ManagedFieldsEntry) (manager string, tells bool) {
	for _, entry := range managed {
		if entry.FieldsV1 == nil || !excerpt.IsReapplier(entry.Manager) {
			continue
		}
		var set fieldpath.Set
		if set.FromJSON(entry.FieldsV1.GetRawReader()) != nil {
			continue
		}
		tells = tells || entry.Subresource == ""
		owns := false
		set.Iterate(func(p fieldpath.Path) {
			last := p[len(p)-1]
			owns = owns || last.FieldName != nil && (*last.FieldName == "image" || *last.FieldName == "reference")
		})
		if owns {
			return entry.Manager, true
		}
	}
	return "", tells
}
