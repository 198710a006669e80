package excerpt

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Pod is what a pass looks at of a Pod.
type Pod struct {
	held
	// Node is where it runs; empty while it is not scheduled.
	Node           string
	Running, Ready bool
	// Ended: all its containers have ended for good.
	Ended bool
}

// waitingContainer is a container that waits, and not only because it has not been
// started yet.
type waitingContainer struct{ name, reason string }

// PodOf is what a pass looks at of a Pod.
func PodOf(pod *corev1.Pod) *Pod {
	p := &Pod{held: hold(&pod.ObjectMeta, &pod.Spec), Node: same(pod.Spec.NodeName), Ready: PodReady(pod), Ended: PodEnded(pod)}
	p.Running = pod.Status.Phase == corev1.PodRunning
	p.Labels = pod.Labels
	some := p.few()
	if pod.Namespace == v1alpha1.Namespace {
		some.annotations = pod.Annotations // what our own pods say of themselves
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			if w := statuses[i].State.Waiting; w != nil && waitingOf(w.Reason) != coming {
				some.waits = append(some.waits, waitingContainer{statuses[i].Name, w.Reason})
			}
		}
	}
	p.hold(some)
	return p
}

// DeepCopyObject is part of runtime.Object. Nothing in a Pod is ever changed.
func (p *Pod) DeepCopyObject() runtime.Object {
	same := *p
	return &same
}

// Object names the Pod to the API server.
func (p *Pod) Object() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.GetUID(), ResourceVersion: p.GetResourceVersion()}}
}

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

// waitsFor finds the first container that waits for one of the reasons.
func (p *Pod) waitsFor(reasons ...waiting) (waitingContainer, bool) {
	waits := p.few().waits
	i := slices.IndexFunc(waits, func(w waitingContainer) bool { return slices.Contains(reasons, waitingOf(w.reason)) })
	if i < 0 {
		return waitingContainer{}, false
	}
	return waits[i], true
}

// WaitingReason is why a container of the Pod does not run: "container serve:
// CrashLoopBackOff". It is empty when all run or may still start.
func (p *Pod) WaitingReason() string {
	w, found := p.waitsFor(pullFailed, imageUnusable, failing)
	if !found {
		return ""
	}
	return "container " + w.name + ": " + w.reason
}

// WaitsForImage is the container of the Pod that cannot start because its image is
// not there; false when there is none.
func (p *Pod) WaitsForImage() (container string, waits bool) {
	w, found := p.waitsFor(pullFailed, imageUnusable)
	return w.name, found
}

// ImagePullFailed reports whether a container of the Pod waits for an image
// that failed to be pulled.
func (p *Pod) ImagePullFailed() bool {
	_, found := p.waitsFor(pullFailed)
	return found
}

// IsAgent reports whether the Pod is one of our agents. They outlive a change of
// their template, and with it the name that they were started by.
func (p *Pod) IsAgent() bool {
	owner := metav1.GetControllerOfNoCopy(p)
	return owner != nil && owner.Kind == "DaemonSet" && owner.Name == v1alpha1.DaemonSetAgent && p.Namespace == v1alpha1.Namespace
}

// IsStore reports whether the Pod is a store of ours: a static pod's, which its Node owns, or a
// DaemonSet's. A switch changes the image of neither.
func (p *Pod) IsStore() bool {
	owner := metav1.GetControllerOfNoCopy(p)
	if owner == nil || p.Namespace != v1alpha1.Namespace || p.Labels[v1alpha1.LabelApp] != v1alpha1.PodStore {
		return false
	}
	return owner.Kind == "Node" || owner.Kind == "DaemonSet" && slices.Contains(v1alpha1.DaemonSetsOfStores(), owner.Name)
}

// IsUninstall reports whether the Pod is the chart's that takes the module out of
// the cluster.
func (p *Pod) IsUninstall() bool {
	return p.Namespace == v1alpha1.Namespace && p.Name == v1alpha1.PodUninstall
}

// PodReady reports whether a Pod is Ready.
func PodReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// PodEnded reports whether all containers of a Pod have ended for good.
func PodEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
