package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// LabelApp on a Pod of the module is the name of its workload.
const LabelApp = v1alpha1.LabelApp

// waiting sorts the reasons for which a container waits, as the kubelet calls
// them. Everything that asks why a Pod does not start asks here.
type waiting int

const (
	coming        waiting = iota // it may still start
	pullFailed                   // the image could not be pulled
	imageUnusable                // the image cannot be had in another way
	failing                      // anything else
)

func waitingOf(reason string) waiting {
	switch reason {
	case "", "ContainerCreating", "PodInitializing":
		return coming
	case "ErrImagePull", "ImagePullBackOff":
		return pullFailed
	case "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable":
		return imageUnusable
	}
	return failing
}

// waits finds the first container that waits for one of the reasons.
func waits(pod *corev1.Pod, reasons ...waiting) (container, reason string, found bool) {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && slices.Contains(reasons, waitingOf(w.Reason)) {
			return c.Name, w.Reason, true
		}
	}
	return "", "", false
}

// WaitingReason is why a container of a Pod does not run: "container serve:
// CrashLoopBackOff". It is empty when all run or may still start.
func WaitingReason(pod *corev1.Pod) string {
	container, reason, found := waits(pod, pullFailed, imageUnusable, failing)
	if !found {
		return ""
	}
	return "container " + container + ": " + reason
}

// WaitsForImage reports whether a container of the Pod cannot start because its
// image is not there.
func WaitsForImage(pod *corev1.Pod) bool {
	_, _, found := waits(pod, pullFailed, imageUnusable)
	return found
}

// ImagePullFailed reports whether a container of the Pod waits for an image
// that failed to be pulled.
func ImagePullFailed(pod *corev1.Pod) bool {
	_, _, found := waits(pod, pullFailed)
	return found
}

// PodReady reports whether a Pod is Ready.
func PodReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// SameImages reports whether the Pod has all images of the template: an
// outdated Pod that cannot start is not the switch's fault.
func SameImages(pod *corev1.Pod, template *corev1.PodTemplateSpec) bool {
	have := Images(&pod.Spec)
	return !slices.ContainsFunc(Images(&template.Spec), func(image string) bool { return !slices.Contains(have, image) })
}

// PodEnded reports whether all containers of a Pod have ended for good.
func PodEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// IsAgent reports whether a Pod is one of our agents. They outlive a change of
// their template, and with it the name that they were started by.
func IsAgent(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet" && owner.Name == v1alpha1.DaemonSetAgent && pod.Namespace == v1alpha1.Namespace
}

// IsUninstall reports whether a Pod is the chart's that takes the module out of
// the cluster.
func IsUninstall(pod *corev1.Pod) bool {
	return pod.Namespace == v1alpha1.Namespace && pod.Name == v1alpha1.PodUninstall
}
