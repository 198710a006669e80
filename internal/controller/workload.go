package controller

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// Annotations that re-pointing leaves on a workload, in the same write as the
// images, so that a crash knows what was done.
const (
	// annotationRepointed is the number of the switch that re-pointed it.
	annotationRepointed = "registry.deckhouse.io/repointed"
	// annotationAvailable is how many of its pods were available before.
	annotationAvailable = "registry.deckhouse.io/available-before"
)

// reappliers are field managers that put back what we change, for ever. They
// are told about, not fought.
var reappliers = []string{"kustomize-controller", "helm-controller", "argocd"} //nolint:gochecknoglobals // a constant list

// workload is something with a pod template that lives until it is deleted.
type workload struct {
	client.Object
	kind     schema.GroupVersionKind
	template *corev1.PodTemplateSpec
	// platform: it or its namespace is selected as the platform's.
	platform bool
	// own: our controller, agent or proxy.
	own bool
}

// String is kind, namespace and name: "Deployment d8-monitoring/prometheus".
func (w workload) String() string { return w.kind.Kind + " " + key(w.Object) }

// workloads are all of them, by kind: DaemonSets last, because they are
// re-pointed last.
func (inv *inventory) workloads(platform labels.Selector) []workload {
	var all []workload
	add := func(o client.Object, kind schema.GroupVersionKind, template *corev1.PodTemplateSpec) {
		w := workload{Object: o, kind: kind, template: template}
		w.own = isOwn(w)
		w.platform = !w.own && (platform.Matches(labels.Set(o.GetLabels())) || platform.Matches(inv.namespaces[o.GetNamespace()]))
		all = append(all, w)
	}
	for i := range inv.deployments {
		o := &inv.deployments[i]
		add(o, appsv1.SchemeGroupVersion.WithKind("Deployment"), &o.Spec.Template)
	}
	for i := range inv.stateful {
		o := &inv.stateful[i]
		add(o, appsv1.SchemeGroupVersion.WithKind("StatefulSet"), &o.Spec.Template)
	}
	for i := range inv.cronJobs {
		o := &inv.cronJobs[i]
		add(o, batchv1.SchemeGroupVersion.WithKind("CronJob"), &o.Spec.JobTemplate.Spec.Template)
	}
	for i := range inv.daemonSets {
		o := &inv.daemonSets[i]
		add(o, appsv1.SchemeGroupVersion.WithKind("DaemonSet"), &o.Spec.Template)
	}
	return all
}

func isOwn(w workload) bool {
	if w.GetNamespace() != v1alpha1.Namespace {
		return false
	}
	switch w.kind.Kind {
	case "Deployment":
		return w.GetName() == v1alpha1.DeploymentController || w.GetName() == v1alpha1.DeploymentProxy
	case "DaemonSet":
		return w.GetName() == v1alpha1.DaemonSetAgent
	}
	return false
}

// unobserved reports whether the workload's controller has not yet seen its
// present template.
func (w workload) unobserved() bool {
	switch o := w.Object.(type) {
	case *appsv1.Deployment:
		return o.Status.ObservedGeneration < o.Generation
	case *appsv1.StatefulSet:
		return o.Status.ObservedGeneration < o.Generation
	case *appsv1.DaemonSet:
		return o.Status.ObservedGeneration < o.Generation
	}
	return false
}

// selector selects the workload's pods; nil when it makes none of its own.
func (w workload) selector() labels.Selector {
	var from *metav1.LabelSelector
	switch o := w.Object.(type) {
	case *appsv1.Deployment:
		from = o.Spec.Selector
	case *appsv1.StatefulSet:
		from = o.Spec.Selector
	case *appsv1.DaemonSet:
		from = o.Spec.Selector
	}
	selector, err := metav1.LabelSelectorAsSelector(from)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}

// available is how many of its pods are.
func (w workload) available() int32 {
	switch o := w.Object.(type) {
	case *appsv1.Deployment:
		return o.Status.AvailableReplicas
	case *appsv1.StatefulSet:
		return o.Status.AvailableReplicas
	case *appsv1.DaemonSet:
		return o.Status.NumberAvailable
	}
	return 0
}

// mayMove says why a workload is not ours to re-point; empty when it is.
func (r *Reconciler) mayMove(w workload, number int64) string {
	if w.GetAnnotations()[v1alpha1.AnnotationRepoint] == "false" {
		return "annotation " + v1alpha1.AnnotationRepoint + " is false"
	}
	if owner := metav1.GetControllerOf(w); owner != nil && custom(owner.APIVersion) {
		return "it is made by " + owner.Kind + " " + owner.Name
	}
	if manager := reapplier(w.GetManagedFields()); manager != "" {
		return "its images are applied by " + manager
	}
	if manager := r.fought(w.GetUID(), number); manager != "" {
		return "its images are applied by " + manager
	}
	if number != 0 && w.GetAnnotations()[annotationRepointed] == switchNumber(number) {
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

// reapplier is the known re-applier that owns an image of a pod template, if
// any.
func reapplier(managed []metav1.ManagedFieldsEntry) string {
	for _, entry := range managed {
		if entry.FieldsV1 == nil || !isReapplier(entry.Manager) {
			continue
		}
		var set fieldpath.Set
		if set.FromJSON(entry.FieldsV1.GetRawReader()) != nil {
			continue
		}
		owns := false
		set.Iterate(func(p fieldpath.Path) {
			last := p[len(p)-1]
			owns = owns || last.FieldName != nil && *last.FieldName == "image"
		})
		if owns {
			return entry.Manager
		}
	}
	return ""
}

func isReapplier(manager string) bool {
	return slices.ContainsFunc(reappliers, func(known string) bool { return strings.HasPrefix(manager, known) })
}

// moves are what a template should name instead: container or volume -> image.
type moves struct{ containers, inits, volumes map[string]string }

func (m moves) none() bool { return len(m.containers)+len(m.inits)+len(m.volumes) == 0 }

// rebase says what of the template names a base other than name, and what it
// should name instead.
func rebase(spec *corev1.PodSpec, bases []layout.Name, name layout.Name) moves {
	m := moves{containers: map[string]string{}, inits: map[string]string{}, volumes: map[string]string{}}
	move := func(to map[string]string, what, image string) {
		if have, rest, ok := layout.MatchName(bases, image); ok && have != name {
			to[what] = name.Reference(rest)
		}
	}
	for i := range spec.Containers {
		move(m.containers, spec.Containers[i].Name, spec.Containers[i].Image)
	}
	for i := range spec.InitContainers {
		move(m.inits, spec.InitContainers[i].Name, spec.InitContainers[i].Image)
	}
	for i := range spec.Volumes {
		if v := spec.Volumes[i].Image; v != nil {
			move(m.volumes, spec.Volumes[i].Name, v.Reference)
		}
	}
	return m
}

// podsOf are the pods that the workload made and that still run.
func (inv *inventory) podsOf(w workload) []*corev1.Pod {
	selector := w.selector()
	var pods []*corev1.Pod
	for i := range inv.pods {
		pod := &inv.pods[i]
		if pod.Namespace == w.GetNamespace() && pod.DeletionTimestamp == nil && selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// waitsForImage reports whether a container of the pod cannot be started
// because its image is not there.
func waitsForImage(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && slices.Contains(imageReasons(), w.Reason) {
				return true
			}
		}
	}
	return false
}

func imageReasons() []string {
	return []string{"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"}
}
