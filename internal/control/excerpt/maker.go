package excerpt

import (
	"encoding/json"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Maker is what a pass looks at of something that makes pods and is never re-pointed:
// a ReplicaSet, Job, ReplicationController or ControllerRevision.
type Maker struct {
	held
	Kind string
	// Ended: a Job that makes no more pods.
	Ended bool
	// Idle: a ReplicaSet that is only there for a rollback of its owner.
	Idle bool
}

// MakerOf is what a pass looks at of an object of one of these kinds.
func MakerOf(object client.Object) *Maker {
	var m *Maker
	switch o := object.(type) {
	case *appsv1.ReplicaSet:
		m = newMaker("ReplicaSet", &o.ObjectMeta, &o.Spec.Template.Spec)
		m.Idle = metav1.GetControllerOfNoCopy(o) != nil && o.Spec.Replicas != nil && *o.Spec.Replicas == 0 && o.Status.Replicas == 0
	case *batchv1.Job:
		m = newMaker("Job", &o.ObjectMeta, &o.Spec.Template.Spec)
		m.Ended = slices.ContainsFunc(o.Status.Conditions, func(c batchv1.JobCondition) bool {
			return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
		})
	case *corev1.ReplicationController:
		spec := &corev1.PodSpec{}
		if o.Spec.Template != nil {
			spec = &o.Spec.Template.Spec
		}
		m = newMaker("ReplicationController", &o.ObjectMeta, spec)
	case *appsv1.ControllerRevision:
		m = newMaker("ControllerRevision", &o.ObjectMeta, revisionSpec(o))
	}
	return m
}

func newMaker(kind string, meta *metav1.ObjectMeta, spec *corev1.PodSpec) *Maker {
	return &Maker{held: hold(meta, spec), Kind: kind}
}

// revisionSpec is the pod template in a ControllerRevision of a DaemonSet or
// StatefulSet; empty when there is none.
func revisionSpec(rev *appsv1.ControllerRevision) *corev1.PodSpec {
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if json.Unmarshal(rev.Data.Raw, &data) != nil {
		return &corev1.PodSpec{}
	}
	return &data.Spec.Template.Spec
}

// DeepCopyObject is part of runtime.Object. Nothing in a Maker is ever changed.
func (m *Maker) DeepCopyObject() runtime.Object {
	same := *m
	return &same
}
