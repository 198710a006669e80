// Package kubelet plays what a kubelet writes to the API server: how a Pod fares
// on its node, and that it is gone. Whoever uses it says when, and whether the
// images were pulled.
package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Why the containers of a Pod wait, as a kubelet says it.
const (
	ErrImagePull     = "ErrImagePull"
	ImagePullBackOff = "ImagePullBackOff"
	CrashLoopBackOff = "CrashLoopBackOff"
)

// Fate is how a Pod fares. The zero Fate is a Pod that runs and is ready.
type Fate struct {
	// Waiting is why its containers do not run, Message what else there is to
	// say about it.
	Waiting, Message string
	// Ended is PodSucceeded or PodFailed for a Pod that has ended.
	Ended corev1.PodPhase
	// IP is the address of the Pod and of its node.
	IP string
}

// Status is what a kubelet says about a Pod.
func Status(pod *corev1.Pod, f Fate) corev1.PodStatus {
	now := metav1.Now()
	status := corev1.PodStatus{Phase: f.phase(), PodIP: f.IP, HostIP: f.IP}
	ready := status.Phase == corev1.PodRunning && f.Waiting == ""
	if ready {
		status.StartTime = &now
	}
	for _, c := range pod.Spec.Containers {
		s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Ready: ready}
		switch {
		case ready:
			s.ImageID, s.State.Running = c.Image, &corev1.ContainerStateRunning{StartedAt: now}
		case f.Waiting != "":
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: f.Waiting, Message: f.Message}
		default:
			s.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: f.exitCode(), FinishedAt: now}
		}
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	whether := map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}
	for _, c := range []struct {
		kind corev1.PodConditionType
		true bool
	}{{corev1.PodScheduled, true}, {corev1.PodInitialized, true}, {corev1.ContainersReady, ready}, {corev1.PodReady, ready}} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: c.kind, Status: whether[c.true], LastTransitionTime: now})
	}
	return status
}

func (f Fate) phase() corev1.PodPhase {
	switch {
	case f.Ended != "":
		return f.Ended
	case f.Waiting == ErrImagePull || f.Waiting == ImagePullBackOff:
		return corev1.PodPending
	}
	return corev1.PodRunning
}

func (f Fate) exitCode() int32 {
	if f.Ended == corev1.PodFailed {
		return 1
	}
	return 0
}

// Report writes the status of a Pod. It overwrites what is there, so the Pod may
// be one that was read a while ago.
func Report(ctx context.Context, c client.Client, pod *corev1.Pod, f Fate) error {
	patch, err := json.Marshal(map[string]any{"status": Status(pod, f)})
	if err != nil {
		return fmt.Errorf("status of Pod %s: %w", pod.Name, err)
	}
	return c.Status().Patch(ctx, pod.DeepCopy(), client.RawPatch(types.MergePatchType, patch))
}

// Remove takes a Pod away whose processes have ended. That it is gone already is
// no error.
func Remove(ctx context.Context, c client.Client, pod *corev1.Pod) error {
	this := client.Preconditions{UID: &pod.UID}
	return client.IgnoreNotFound(c.Delete(ctx, pod, client.GracePeriodSeconds(0), this))
}

// Ready reports whether a Pod is ready and stays.
func Ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
