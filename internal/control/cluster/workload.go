package cluster

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Workload is something with a pod template that lives until it is deleted:
// Deployment, StatefulSet, DaemonSet or CronJob. How each kind says these things
// is told by WorkloadOf alone.
type Workload struct {
	client.Object
	Kind     schema.GroupVersionKind
	Template *corev1.PodTemplateSpec
	// Pods is how its rollout is.
	Pods PodCounts
	// Unobserved: its controller has not yet seen the present template.
	Unobserved bool
	// TemplateOnly: a change of the template makes no pod anew, or not now.
	TemplateOnly bool
	// Platform: a switch moves it.
	Platform bool
	// Foreign: its namespace is not the platform's.
	Foreign bool
	// Own: it is one of the module's.
	Own bool
	// Ignored: the operator says to ignore it or its namespace.
	Ignored bool
	// Ending: its namespace is being deleted.
	Ending bool

	// Selector is of its pods; nil for a kind that has none.
	Selector *metav1.LabelSelector
}

// PodCounts is a workload's status in words common to all kinds.
type PodCounts struct {
	Wanted    int
	Rolls     int // how many of them a rollout makes anew: a partition keeps some
	Updated   int
	Outdated  int
	Available int
	Failed    bool   // the progress deadline has passed
	Refused   string // why Pods cannot be made
}

// String is kind, namespace and name: "Deployment d8-monitoring/prometheus".
func (w Workload) String() string { return w.Kind.Kind + " " + Key(w.Object) }

// WorkloadOf tells what one object says of itself. The object is one of the
// four kinds; any other makes a Workload without a template.
func WorkloadOf(object client.Object) Workload {
	w := Workload{Object: object}
	switch o := object.(type) {
	case *appsv1.Deployment:
		w.Kind, w.Template = appsv1.SchemeGroupVersion.WithKind("Deployment"), &o.Spec.Template
		w.Selector, w.TemplateOnly = o.Spec.Selector, o.Spec.Paused
		w.Unobserved, w.Pods = o.Status.ObservedGeneration < o.Generation, deploymentPods(o)
	case *appsv1.StatefulSet:
		n := Replicas(o.Spec.Replicas)
		w.Kind, w.Template = appsv1.SchemeGroupVersion.WithKind("StatefulSet"), &o.Spec.Template
		w.Selector, w.TemplateOnly = o.Spec.Selector, o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType
		w.Unobserved = o.Status.ObservedGeneration < o.Generation
		w.Pods = PodCounts{Wanted: n, Rolls: max(0, n-partition(o)), Updated: int(o.Status.UpdatedReplicas),
			Outdated: int(o.Status.Replicas - o.Status.UpdatedReplicas), Available: int(o.Status.AvailableReplicas)}
	case *appsv1.DaemonSet:
		n, updated := int(o.Status.DesiredNumberScheduled), int(o.Status.UpdatedNumberScheduled)
		w.Kind, w.Template = appsv1.SchemeGroupVersion.WithKind("DaemonSet"), &o.Spec.Template
		w.Selector, w.TemplateOnly = o.Spec.Selector, o.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
		// A deletion is a generation too. The controller looks no more at one that is being deleted,
		// which may be so for as long as a node is away, and makes no pod of it.
		w.Unobserved = o.DeletionTimestamp == nil && o.Status.ObservedGeneration < o.Generation
		w.Pods = PodCounts{Wanted: n, Rolls: n, Updated: updated, Outdated: n - updated, Available: int(o.Status.NumberAvailable)}
	case *batchv1.CronJob:
		w.Kind, w.Template = batchv1.SchemeGroupVersion.WithKind("CronJob"), &o.Spec.JobTemplate.Spec.Template
		w.TemplateOnly = true
	}
	return w
}

func deploymentPods(o *appsv1.Deployment) PodCounts {
	n := Replicas(o.Spec.Replicas)
	c := PodCounts{Wanted: n, Rolls: n, Updated: int(o.Status.UpdatedReplicas),
		Outdated: int(o.Status.Replicas - o.Status.UpdatedReplicas), Available: int(o.Status.AvailableReplicas)}
	for _, condition := range o.Status.Conditions {
		switch {
		case condition.Type == appsv1.DeploymentProgressing && condition.Status == corev1.ConditionFalse:
			c.Failed = true
		case condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue:
			// Before that stands a name that changes with each try.
			_, why, found := strings.Cut(condition.Message, " is forbidden: ")
			if c.Refused = why; !found {
				c.Refused = condition.Message
			}
		}
	}
	return c
}

// Replicas is spec.replicas with its default.
func Replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

// partition is below which ordinal a StatefulSet keeps its old Pods.
func partition(o *appsv1.StatefulSet) int {
	if u := o.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		return int(*u.Partition)
	}
	return 0
}
