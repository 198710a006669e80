package controller

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// A switch leaves the agents' pods alone: they go on running under the address
// that they were made with. On a node whose disk is made anew such a pod has to
// be pulled again, by an address that may be gone, while nothing routes it yet:
// it is the router. So it is deleted, and made anew from the present address.

// stranded are the agents that cannot be pulled and would be pulled from
// elsewhere if they were made now.
func stranded(s *sight, doc document) []*corev1.Pod {
	ds := s.daemonSet(v1alpha1.DaemonSetAgent)
	if ds == nil || doc.Desired.Own.IsZero() || !onBase(s, doc, ds.Spec.Template) {
		return nil
	}
	var pods []*corev1.Pod
	for _, pod := range s.agentPods() {
		if pod.DeletionTimestamp == nil && unpulled(pod) && !onBase(s, doc, corev1.PodTemplateSpec{Spec: pod.Spec}) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// unpulled is true for a pod that waits for an image which failed to be pulled.
func unpulled(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses), func(c corev1.ContainerStatus) bool {
		return c.State.Waiting != nil && (c.State.Waiting.Reason == "ErrImagePull" || c.State.Waiting.Reason == "ImagePullBackOff")
	})
}

// replaceStranded deletes them. They serve nobody: it waits for nothing.
func (r *Reconciler) replaceStranded(ctx context.Context, s *sight, doc document) error {
	for _, pod := range stranded(s, doc) {
		uid := pod.UID
		err := r.client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}, client.Preconditions{UID: &uid})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue // the cache is behind
		}
		if err != nil {
			return fmt.Errorf("replace Pod %s, whose image is at an address of before: %w", key(pod), err)
		}
		r.log.Info("an agent whose image cannot be pulled is made anew from the present address", "node", pod.Spec.NodeName, "pod", pod.Name)
	}
	return nil
}
