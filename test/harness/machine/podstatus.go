package machine

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// writeToken asks for a token of the pod's ServiceAccount, bound to the pod.
func (r *podRunner) writeToken(ctx context.Context, pod *corev1.Pod, path string) error {
	seconds := int64(tokenSeconds)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if err := r.client.SubResource("token").Create(ctx, account, request); err != nil {
		return fmt.Errorf("token of %s for pod %s: %w", account.Name, pod.Name, err)
	}
	return r.cluster.API.WriteTokenKubeconfig(path, request.Status.Token)
}

// reportWaiting writes that a pod waits for an image.
func (r *podRunner) reportWaiting(ctx context.Context, pod *corev1.Pod, why error) error {
	latest := pod.DeepCopy()
	latest.Status = corev1.PodStatus{Phase: corev1.PodPending}
	for _, c := range pod.Spec.Containers {
		latest.Status.ContainerStatuses = append(latest.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: why.Error()}},
		})
	}
	return r.client.Status().Patch(ctx, latest, client.MergeFrom(pod))
}

// report writes the status of a running pod.
func (r *podRunner) report(ctx context.Context, pod *corev1.Pod, ip string) error {
	now := metav1.Now()
	latest := pod.DeepCopy()
	latest.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, HostIP: ip, StartTime: &now}
	for _, c := range pod.Spec.Containers {
		latest.Status.ContainerStatuses = append(latest.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image, Ready: true,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	for _, t := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady, corev1.PodScheduled} {
		latest.Status.Conditions = append(latest.Status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	return r.client.Status().Patch(ctx, latest, client.MergeFrom(pod))
}
