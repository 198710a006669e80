package controller

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// workload is something with a pod template that lives until it is deleted.
type workload struct {
	client.Object
	kind     schema.GroupVersionKind
	template *corev1.PodTemplateSpec
	// platform: it or its namespace is selected as the platform's.
	platform bool
	// own: our controller, agent or proxy.
	own bool
	// ending: its namespace is being deleted.
	ending bool
}

// String is kind, namespace and name: "Deployment d8-monitoring/prometheus".
func (w workload) String() string { return w.kind.Kind + " " + key(w.Object) }

// workloads are all of them, by kind: DaemonSets last, because they are
// re-pointed last.
func (inv *inventory) workloads(platform labels.Selector) []workload {
	var all []workload
	add := func(o client.Object, kind schema.GroupVersionKind, template *corev1.PodTemplateSpec) {
		w := workload{Object: o, kind: kind, template: template, ending: inv.ending[o.GetNamespace()]}
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
