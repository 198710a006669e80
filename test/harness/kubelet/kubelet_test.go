package kubelet_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/d8-registry/registry/test/harness/kubelet"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fate  kubelet.Fate
		phase corev1.PodPhase
		ready bool
		state func(corev1.ContainerState) bool
	}{
		{"runs", kubelet.Fate{IP: "10.0.0.1"}, corev1.PodRunning, true,
			func(s corev1.ContainerState) bool { return s.Running != nil }},
		{"cannot pull", kubelet.Fate{Waiting: kubelet.ErrImagePull, Message: "not found"}, corev1.PodPending, false,
			func(s corev1.ContainerState) bool {
				return *s.Waiting == corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "not found"}
			}},
		{"crashes", kubelet.Fate{Waiting: kubelet.CrashLoopBackOff}, corev1.PodRunning, false,
			func(s corev1.ContainerState) bool { return s.Waiting.Reason == "CrashLoopBackOff" }},
		{"is done", kubelet.Fate{Ended: corev1.PodSucceeded}, corev1.PodSucceeded, false,
			func(s corev1.ContainerState) bool { return s.Terminated.ExitCode == 0 }},
		{"has failed", kubelet.Fate{Ended: corev1.PodFailed}, corev1.PodFailed, false,
			func(s corev1.ContainerState) bool { return s.Terminated.ExitCode != 0 }},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}}}
		pod.Status = kubelet.Status(pod, c.fate)
		if pod.Status.Phase != c.phase || kubelet.Ready(pod) != c.ready || pod.Status.PodIP != c.fate.IP {
			t.Errorf("%s: ready %t, %+v", c.name, kubelet.Ready(pod), pod.Status)
		}
		if len(pod.Status.ContainerStatuses) != 2 {
			t.Fatalf("%s: %+v", c.name, pod.Status.ContainerStatuses)
		}
		for _, s := range pod.Status.ContainerStatuses {
			if s.Ready != c.ready || !c.state(s.State) {
				t.Errorf("%s: %+v", c.name, s)
			}
		}
	}
}
