package cluster

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/shelf"
)

// CacheOptions keep in memory only what a pass looks at: a cluster's pods and
// Secrets are many, and most are nobody's business here.
func CacheOptions() cache.Options {
	here := map[string]cache.Config{v1alpha1.Namespace: {}}
	required, err := labels.NewRequirement(v1alpha1.LabelRequiredImages, selection.Equals, []string{"true"})
	if err != nil {
		panic(err) // the selector is a constant
	}
	shared := &slimmer{}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{
				v1alpha1.Namespace:  {},
				cache.AllNamespaces: {FieldSelector: fields.OneTermEqualSelector("metadata.name", v1alpha1.SecretRegistry)},
			}},
			&corev1.Service{}:   {Namespaces: here},
			&corev1.ConfigMap{}: {Label: labels.NewSelector().Add(*required)},
			&coordinationv1.Lease{}: {
				Namespaces: here, Transform: slimmed(slimLease),
				Label: labels.SelectorFromSet(labels.Set{LabelApp: v1alpha1.DaemonSetAgent}),
			},
			&corev1.Node{}:           {Transform: slimmed(slimNode)},
			&v1alpha1.RegistryNode{}: {Transform: slimmed(printable)},
			&appsv1.Deployment{}:     {Transform: slimmed(slimDeployment)},
			&appsv1.DaemonSet{}:      {Transform: slimmed(slimDaemonSet)},
			&appsv1.StatefulSet{}:    {Transform: slimmed(slimStatefulSet)},
			&batchv1.CronJob{}:       {Transform: slimmed(slimCronJob)},
			// Of these there are so many that they are held in another type.
			&corev1.Pod{}:                   {Transform: kept(func(o *corev1.Pod) any { return shared.pod(o) })},
			&appsv1.ReplicaSet{}:            {Transform: kept(func(o *appsv1.ReplicaSet) any { return shared.maker(o) })},
			&batchv1.Job{}:                  {Transform: kept(func(o *batchv1.Job) any { return shared.maker(o) })},
			&corev1.ReplicationController{}: {Transform: kept(func(o *corev1.ReplicationController) any { return shared.maker(o) })},
			&appsv1.ControllerRevision{}:    {Transform: kept(func(o *appsv1.ControllerRevision) any { return shared.maker(o) })},
		},
	}
}

// kept is a transform to what is kept of an object. What was transformed before stays
// as it is.
func kept[P client.Object](keep func(P) any) toolscache.TransformFunc {
	return func(o any) (any, error) {
		if full, ok := o.(P); ok {
			return keep(full), nil
		}
		return o, nil
	}
}

// slimmed is a transform that shortens an object of its own kind.
func slimmed[T any, P interface {
	*T
	client.Object
}](slim func(P)) toolscache.TransformFunc {
	return kept(func(o P) any { slim(o); return o })
}

// slimmer makes what is held of objects: what they have in common it makes once.
type slimmer struct{ alike shelf.Shelf[Alike] }

func (s *slimmer) pod(full *corev1.Pod) *Pod {
	p := PodOf(full)
	p.share(&s.alike)
	return p
}

func (s *slimmer) maker(full client.Object) *Maker {
	m := MakerOf(full)
	m.share(&s.alike)
	return m
}

// appliedWith is where kubectl keeps a copy of the whole object.
const appliedWith = "kubectl.kubernetes.io/last-applied-configuration"

// slimWorkload drops of a workload what no pass looks at: of managedFields it keeps
// those that say who applies its images again, of its template what refers to images.
// Those of d8-system stay whole, because ours are compared with what they should be.
func slimWorkload(m *metav1.ObjectMeta, template *corev1.PodTemplateSpec) {
	if m.Namespace == v1alpha1.Namespace {
		return
	}
	m.ManagedFields = slices.DeleteFunc(m.ManagedFields, func(e metav1.ManagedFieldsEntry) bool { return !IsReapplier(e.Manager) })
	delete(m.Annotations, appliedWith)
	full := &template.Spec
	slim := corev1.PodSpec{ImagePullSecrets: full.ImagePullSecrets, InitContainers: slimContainers(full.InitContainers), Containers: slimContainers(full.Containers)}
	for i := range full.Volumes {
		if full.Volumes[i].Image != nil {
			slim.Volumes = append(slim.Volumes, full.Volumes[i])
		}
	}
	template.Spec = slim
}

func slimContainers(from []corev1.Container) []corev1.Container {
	to := make([]corev1.Container, 0, len(from))
	for i := range from {
		to = append(to, corev1.Container{Name: from[i].Name, Image: from[i].Image, ImagePullPolicy: from[i].ImagePullPolicy})
	}
	return to
}

func slimDeployment(o *appsv1.Deployment)   { slimWorkload(&o.ObjectMeta, &o.Spec.Template) }
func slimDaemonSet(o *appsv1.DaemonSet)     { slimWorkload(&o.ObjectMeta, &o.Spec.Template) }
func slimStatefulSet(o *appsv1.StatefulSet) { slimWorkload(&o.ObjectMeta, &o.Spec.Template) }
func slimCronJob(o *batchv1.CronJob) {
	slimWorkload(&o.ObjectMeta, &o.Spec.JobTemplate.Spec.Template)
}

// slimLease keeps which Lease it is, and that it has changed.
func slimLease(lease *coordinationv1.Lease) {
	m := lease.ObjectMeta
	*lease = coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion}}
}

// slimNode drops what changes often or is long, and no pass looks at.
func slimNode(node *corev1.Node) {
	node.ManagedFields = nil
	foreign.Fields(&node.Status.NodeInfo, func(string) int { return foreign.Word }) // the kubelet says so
	status := corev1.NodeStatus{NodeInfo: node.Status.NodeInfo}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	node.Status = status
}
