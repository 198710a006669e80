package controller

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// reappliers are field managers that put back what we change, for ever. They
// are told about, not fought.
var reappliers = []string{"kustomize-controller", "helm-controller", "argocd"} //nolint:gochecknoglobals // a constant list

// marks are labels and annotations by which the same tools know what is theirs.
// They count where no field manager tells: an older Argo CD applies as kubectl.
var marks = []struct{ key, tool string }{ //nolint:gochecknoglobals // a constant list
	{"argocd.argoproj.io/instance", "argocd"},
	{"argocd.argoproj.io/tracking-id", "argocd"},
	{"helm.toolkit.fluxcd.io/name", "helm-controller"},
	{"kustomize.toolkit.fluxcd.io/name", "kustomize-controller"},
}

// sent is what this process knows of its own patch of a workload. The workload
// carries an annotation for the next process; but who replaces a whole object
// takes that away, and must not be fought for ever.
type sent struct {
	number int64  // of the switch
	from   string // the resource version that the patch was made from; empty for none
	late   bool   // made after the platform's move had ended, and not there yet
}

// sentIn is the patch of this switch; zero when there was none.
func (r *Reconciler) sentIn(uid types.UID, number int64) sent {
	if s := r.sent[uid]; s.number == number {
		return s
	}
	return sent{}
}

// unseen reports whether the cache still has what the patch was made from.
func (s sent) unseen(w workload) bool { return s.from != "" && s.from == w.GetResourceVersion() }

func (r *Reconciler) remember(ro rollout, doc document) {
	if r.sent == nil {
		r.sent = map[types.UID]sent{}
	}
	r.sent[ro.GetUID()] = sent{number: doc.Switch, from: ro.GetResourceVersion(), late: doc.moved()}
}

// arrived notes that a rollout has ended.
func (r *Reconciler) arrived(uid types.UID) {
	if s, ok := r.sent[uid]; ok && s.late {
		s.late = false
		r.sent[uid] = s
	}
}

// spared says why a workload is neither re-pointed nor waited for; empty when
// nothing speaks against it. An operator may say so at any time.
func (w workload) spared() string {
	switch {
	case w.GetAnnotations()[v1alpha1.AnnotationRepoint] == "false":
		return "annotation " + v1alpha1.AnnotationRepoint + " is false"
	case w.GetDeletionTimestamp() != nil:
		return "it is being deleted"
	case w.ending:
		return "Namespace " + w.GetNamespace() + " is being deleted"
	}
	return ""
}

// mayMove says why a workload is not ours to re-point; empty when it is.
func (r *Reconciler) mayMove(w workload, number int64) string {
	if reason := w.spared(); reason != "" {
		return reason
	}
	for _, owner := range w.GetOwnerReferences() {
		if custom(owner.APIVersion) {
			return "it is made by " + owner.Kind + " " + owner.Name
		}
	}
	if manager := reapplierOf(w); manager != "" {
		return "its images are applied by " + manager
	}
	if container := r.preloaded(&w.template.Spec); container != "" {
		return "imagePullPolicy of container " + container + " is Never, and nodes have its image under this name only"
	}
	if manager := r.fought(w.GetUID(), number); manager != "" {
		return "its images are applied by " + manager
	}
	if number != 0 && (w.GetAnnotations()[v1alpha1.AnnotationRepointed] == switchNumber(number) || r.sentIn(w.GetUID(), number).from != "") {
		return "it was re-pointed in this switch and changed back"
	}
	return ""
}

// custom reports whether an owner of this API group writes templates of its
// own. Groups of Kubernetes itself have no dot or end in k8s.io.
func custom(apiVersion string) bool {
	group, _, found := strings.Cut(apiVersion, "/")
	return found && strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io")
}

// preloaded is a container whose image, under one of our names, the kubelet is
// told never to pull; empty when there is none.
func (r *Reconciler) preloaded(spec *corev1.PodSpec) string {
	bases := r.bases.Load()
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if list[i].ImagePullPolicy != corev1.PullNever {
				continue
			}
			if bases == nil {
				return list[i].Name
			}
			if _, _, ok := layout.MatchName(*bases, list[i].Image); ok {
				return list[i].Name
			}
		}
	}
	return ""
}

// reapplierOf is the known re-applier of a workload's images; empty when there
// is none.
func reapplierOf(w workload) string {
	manager, tells := reapplier(w.GetManagedFields())
	if tells {
		return manager
	}
	for _, mark := range marks {
		// An annotation that was copied from elsewhere names another object.
		if w.GetLabels()[mark.key] != "" || strings.HasSuffix(w.GetAnnotations()[mark.key], ":"+key(w)) {
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
		if entry.FieldsV1 == nil || !isReapplier(entry.Manager) {
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

func isReapplier(manager string) bool {
	return slices.ContainsFunc(reappliers, func(known string) bool { return strings.HasPrefix(manager, known) })
}
