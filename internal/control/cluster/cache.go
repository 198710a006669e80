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
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
)

// CacheOptions keep in memory only what a pass looks at: a cluster's pods and
// Secrets are many, and most are nobody's business here.
func CacheOptions() cache.Options {
	here := map[string]cache.Config{v1alpha1.Namespace: {}}
	required, err := labels.NewRequirement(v1alpha1.LabelRequiredImages, selection.Equals, []string{"true"})
	if err != nil {
		panic(err) // the selector is a constant
	}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{
				v1alpha1.Namespace:  {},
				cache.AllNamespaces: {FieldSelector: fields.OneTermEqualSelector("metadata.name", v1alpha1.SecretRegistry)},
			}},
			&corev1.Service{}:   {Namespaces: here},
			&corev1.ConfigMap{}: {Label: labels.NewSelector().Add(*required)},
			&corev1.Pod{}:       {Transform: slimPod},
			&corev1.Node{}:      {Transform: slimNode},
			&coordinationv1.Lease{}: {
				Namespaces: here, Transform: slimLease,
				Label: labels.SelectorFromSet(labels.Set{LabelApp: v1alpha1.DaemonSetAgent}),
			},
			&v1alpha1.RegistryNode{}:     {Transform: printableReport},
			&appsv1.Deployment{}:         {Transform: keepFields},
			&appsv1.DaemonSet{}:          {Transform: keepFields},
			&appsv1.StatefulSet{}:        {Transform: keepFields},
			&batchv1.CronJob{}:           {Transform: keepFields},
			&appsv1.ControllerRevision{}: {},
		},
	}
}

// keepFields keeps managedFields: they say who applies a workload's images.
func keepFields(o any) (any, error) { return o, nil }

// slimPod keeps of a pod what the census and rollouts look at.
func slimPod(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	slim := &corev1.Pod{TypeMeta: pod.TypeMeta}
	m := pod.ObjectMeta
	slim.ObjectMeta = metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Labels: m.Labels, DeletionTimestamp: m.DeletionTimestamp, OwnerReferences: m.OwnerReferences,
	}
	if m.Namespace == v1alpha1.Namespace {
		slim.Annotations = m.Annotations // what our own pods say of themselves
	} else if IsIgnored(pod) {
		slim.Annotations = map[string]string{v1alpha1.AnnotationIgnore: "true"}
	}
	slim.Spec.NodeName = pod.Spec.NodeName
	slim.Spec.ImagePullSecrets = pod.Spec.ImagePullSecrets
	slim.Spec.InitContainers = slimContainers(pod.Spec.InitContainers)
	slim.Spec.Containers = slimContainers(pod.Spec.Containers)
	for i := range pod.Spec.EphemeralContainers {
		e := pod.Spec.EphemeralContainers[i].EphemeralContainerCommon
		slim.Spec.EphemeralContainers = append(slim.Spec.EphemeralContainers,
			corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: e.Name, Image: e.Image}})
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i]; v.Image != nil {
			slim.Spec.Volumes = append(slim.Spec.Volumes, v)
		}
	}
	slim.Status.Phase = pod.Status.Phase
	slim.Status.Conditions = slices.DeleteFunc(slices.Clone(pod.Status.Conditions), func(c corev1.PodCondition) bool { return c.Type != corev1.PodReady })
	slim.Status.InitContainerStatuses = slimStatuses(pod.Status.InitContainerStatuses)
	slim.Status.ContainerStatuses = slimStatuses(pod.Status.ContainerStatuses)
	return slim, nil
}

func slimContainers(from []corev1.Container) []corev1.Container {
	to := make([]corev1.Container, 0, len(from))
	for i := range from {
		to = append(to, corev1.Container{Name: from[i].Name, Image: from[i].Image})
	}
	return to
}

func slimStatuses(from []corev1.ContainerStatus) []corev1.ContainerStatus {
	to := make([]corev1.ContainerStatus, 0, len(from))
	for i := range from {
		s := corev1.ContainerStatus{Name: from[i].Name}
		if w := from[i].State.Waiting; w != nil {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason}
		}
		to = append(to, s)
	}
	return to
}

// slimLease keeps which Lease it is, and that it has changed.
func slimLease(o any) (any, error) {
	lease, ok := o.(*coordinationv1.Lease)
	if !ok {
		return o, nil
	}
	m := lease.ObjectMeta
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion}}, nil
}

// slimNode drops what changes often or is long, and no pass looks at.
func slimNode(o any) (any, error) {
	node, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	slim := node.DeepCopy()
	slim.ManagedFields = nil
	slim.Status = corev1.NodeStatus{NodeInfo: node.Status.NodeInfo}
	foreign.Fields(&slim.Status.NodeInfo, func(string) int { return foreign.Word }) // the kubelet says so
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			slim.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return slim, nil
}
