package excerpt

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestWhyAPodDoesNotStart: the reasons of the kubelet, by what they mean to us.
func TestWhyAPodDoesNotStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reason                   string
		stuck, forImage, pulling bool
	}{
		{"", false, false, false},
		{"ContainerCreating", false, false, false},
		{"PodInitializing", false, false, false},
		{"ErrImagePull", true, true, true},
		{"ImagePullBackOff", true, true, true},
		{"ErrImageNeverPull", true, true, false},
		{"InvalidImageName", true, true, false},
		{"ImageInspectError", true, true, false},
		{"RegistryUnavailable", true, true, false},
		{"CrashLoopBackOff", true, false, false},
		{"CreateContainerConfigError", true, false, false},
	} {
		waits := []corev1.ContainerStatus{
			{Name: "runs", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			{Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: c.reason}}},
		}
		for _, status := range []corev1.PodStatus{{ContainerStatuses: waits}, {InitContainerStatuses: waits}} {
			pod := PodOf(&corev1.Pod{Status: status})
			want := ""
			if c.stuck {
				want = "container c: " + c.reason
			}
			if got := pod.WaitingReason(); got != want {
				t.Errorf("%s: %q, want %q", c.reason, got, want)
			}
			if container, waits := pod.WaitsForImage(); waits != c.forImage || waits != (container == "c") || pod.ImagePullFailed() != c.pulling {
				t.Errorf("%s: %q waits for image %t, pull failed %t", c.reason, container, waits, pod.ImagePullFailed())
			}
		}
	}
}
