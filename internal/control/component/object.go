package component

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// String names the workload as messages do: "DaemonSet d8-system/registry-agent".
func (c Component) String() string { return c.Kind + " " + v1alpha1.Namespace + "/" + c.Name }

// there is the component's workload as it is; nil when there is none.
func (c Component) there(s *cluster.Snapshot) *cluster.Workload {
	return s.Inventory.OwnWorkload(c.Kind, c.Name)
}

// wanted is the component's workload as this version of the module wants it.
func (k *Keeper) wanted(c Component, v *state.View) cluster.Workload {
	template := c.Template(ownReference(v.Doc, k.cfg.Image), len(v.Nodes))
	revise(&template, c.Template(k.cfg.Image, 0))
	meta := metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: c.Name, Labels: template.Labels}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.LabelApp: c.Name}}
	if c.Kind == "DaemonSet" {
		return cluster.WorkloadOf(&appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{
			Selector: selector,
			// A switch must not restart agents, because it needs them. In an
			// upgrade we delete their pods, see UpgradeAgents.
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType},
			Template:       template,
		}})
	}
	replicas := int32(1)
	if c.Replicas != nil {
		replicas = int32(c.Replicas(v.Observed))
	}
	spec := appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector, Template: template}
	return cluster.WorkloadOf(&appsv1.Deployment{ObjectMeta: meta, Spec: spec})
}

// same reports whether the workload that exists is as it should be.
func same(want cluster.Workload, have *cluster.Workload) bool {
	if have == nil || !cluster.Contains(have.GetLabels(), want.GetLabels()) {
		return false
	}
	switch w := want.Object.(type) {
	case *appsv1.DaemonSet:
		ds, ok := have.Object.(*appsv1.DaemonSet)
		return ok && equality.Semantic.DeepDerivative(w.Spec, ds.Spec)
	case *appsv1.Deployment:
		d, ok := have.Object.(*appsv1.Deployment)
		return ok && equality.Semantic.DeepDerivative(w.Spec, d.Spec)
	}
	return false
}

// ownReference is our image under the registry's real address.
func ownReference(doc state.Document, image string) string {
	return layout.NameOf(doc.Desired.Own).Reference(image)
}

// revisionOf is the revision of a template, or of a pod that was made from one.
func revisionOf(o metav1.Object) string { return o.GetAnnotations()[v1alpha1.AnnotationRevision] }

// revise writes the revision on a template. Like is the same template without
// anything that depends on the cluster, so that only another version of the module
// has another revision.
func revise(template *corev1.PodTemplateSpec, like corev1.PodTemplateSpec) {
	cluster.SetAnnotation(&template.ObjectMeta, v1alpha1.AnnotationRevision, upstream.Digest(like)[:16])
}

// onBase reports whether all images of an own template or pod are from the wanted
// registry.
func onBase(v *state.View, images []string) bool {
	names := ownNames(v)
	return !slices.ContainsFunc(images, func(image string) bool {
		name, _, known := layout.MatchName(names, image)
		return !known || name != layout.NameOf(v.Doc.Desired.Own)
	})
}

func ownNames(v *state.View) []layout.Name {
	return append(v.KnownNames(), layout.NameOf(v.Doc.Desired.Own))
}

func labelsOf(name string, more map[string]string) map[string]string {
	labels := cluster.Ours()
	labels[v1alpha1.LabelApp] = name
	maps.Copy(labels, more)
	return labels
}
