package cluster

import (
	"encoding/json"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/d8-registry/registry/internal/layout"
)

// Images are all image references of a pod.
func Images(spec *corev1.PodSpec) []string {
	var images []string
	for i := range spec.InitContainers {
		images = append(images, spec.InitContainers[i].Image)
	}
	for i := range spec.Containers {
		images = append(images, spec.Containers[i].Image)
	}
	for i := range spec.EphemeralContainers {
		images = append(images, spec.EphemeralContainers[i].Image)
	}
	for i := range spec.Volumes {
		if v := spec.Volumes[i].Image; v != nil {
			images = append(images, v.Reference)
		}
	}
	return images
}

// RefersTo reports whether an image reference of a pod starts with one of the
// names.
func RefersTo(spec *corev1.PodSpec, names []layout.Name) bool {
	return slices.ContainsFunc(Images(spec), func(image string) bool {
		_, _, ok := layout.MatchName(names, image)
		return ok
	})
}

// PullsWith reports whether a list of pull secrets has one of this name.
func PullsWith(secrets []corev1.LocalObjectReference, name string) bool {
	return slices.ContainsFunc(secrets, func(l corev1.LocalObjectReference) bool { return l.Name == name })
}

// Idle reports whether a ReplicaSet is only there for a rollback of its owner.
func Idle(rs *appsv1.ReplicaSet) bool {
	return metav1.GetControllerOf(rs) != nil && rs.Spec.Replicas != nil && *rs.Spec.Replicas == 0 && rs.Status.Replicas == 0
}

// Finished reports whether a Job makes no more pods.
func Finished(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}

// RevisionSpec finds the pod template in a ControllerRevision of a DaemonSet or
// StatefulSet; false when there is none.
func RevisionSpec(rev *appsv1.ControllerRevision) (*corev1.PodSpec, bool) {
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if json.Unmarshal(rev.Data.Raw, &data) != nil || len(data.Spec.Template.Spec.Containers) == 0 {
		return nil, false
	}
	return &data.Spec.Template.Spec, true
}

// MakesPods reports whether pods are still made from a revision: a
// StatefulSet's before a rollout has ended, or below its partition. Pods that
// run already count as pods, and those of the newest revision as template.
func (inv *Inventory) MakesPods(rev *appsv1.ControllerRevision) bool {
	return slices.ContainsFunc(inv.StatefulSets, func(s appsv1.StatefulSet) bool {
		return s.Namespace == rev.Namespace && s.Status.CurrentRevision == rev.Name && s.Status.CurrentRevision != s.Status.UpdateRevision
	})
}
