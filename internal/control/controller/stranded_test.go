package controller

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestStrandedAgents: on a re-imaged node the agent's own image is at the
// address that the pod was made with, and nothing routes that yet.
func TestStrandedAgents(t *testing.T) {
	t.Parallel()
	doc := moving()
	doc.Desired.Own = doc.Desired.Registry.Upstream
	const now, before = "r.io/d8/registry:v1", "a.io/x/registry:v1" // any base that is not the wanted one
	for _, c := range []struct {
		name, template, image, waiting string
		ending                         bool
		want                           int
	}{
		{name: "it cannot be pulled", template: now, image: before, waiting: "ImagePullBackOff", want: 1},
		{name: "at the first try", template: now, image: before, waiting: "ErrImagePull", want: 1},
		{name: "it runs", template: now, image: before},
		{name: "it crashes, which another address does not help", template: now, image: before, waiting: "CrashLoopBackOff"},
		{name: "it is at the present address", template: now, image: now, waiting: "ImagePullBackOff"},
		{name: "a new one would be no better", template: before, image: before, waiting: "ImagePullBackOff"},
		{name: "it goes already", template: now, image: before, waiting: "ImagePullBackOff", ending: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			state := "w1:new"
			if c.ending {
				state = "w1:ending"
			}
			s := agentsOf(state)
			s.inv.daemonSets[0].Spec.Template.Spec.Containers = []corev1.Container{{Name: "serve", Image: c.template}}
			pod := &s.inv.pods[0]
			pod.Spec.InitContainers = []corev1.Container{{Name: "prepare", Image: c.image}}
			if c.waiting != "" {
				pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "prepare", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: c.waiting}}}}
			}
			if got := stranded(s, doc); len(got) != c.want {
				t.Errorf("%d pods are stranded, want %d", len(got), c.want)
			}
		})
	}
}
