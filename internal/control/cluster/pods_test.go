package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
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

// TestTheNodesOfTheAgent: each label that keeps it off does so alone.
func TestTheNodesOfTheAgent(t *testing.T) {
	t.Parallel()
	node := func(labels map[string]string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: labels}}
	}
	if !WantsAgent(node(nil)) || !WantsAgent(node(map[string]string{corev1.LabelOSStable: "linux", v1alpha1.LabelAgent: "true", "type": "master"})) {
		t.Error("an ordinary node has no agent")
	}
	for _, l := range AgentKeepsOff() {
		if WantsAgent(node(map[string]string{l.Key: l.Value})) {
			t.Errorf("with %s=%s it has one", l.Key, l.Value)
		}
	}
	if IsControlPlane(node(nil)) || !IsControlPlane(node(map[string]string{LabelControlPlane: ""})) || !IsControlPlane(node(map[string]string{LabelMaster: ""})) {
		t.Error("the control plane is not known by its labels")
	}
}

// TestMapsOfACacheAreNotChanged: objects are shared with a cache.
func TestMapsOfACacheAreNotChanged(t *testing.T) {
	t.Parallel()
	labels, annotations := map[string]string{"a": "1"}, map[string]string{"b": "1"}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}}
	SetLabels(pod, map[string]string{"c": "2"})
	SetAnnotation(pod, "d", "2")
	if len(labels) != 1 || len(annotations) != 1 || pod.Labels["c"] != "2" || pod.Annotations["d"] != "2" || pod.Labels["a"] != "1" {
		t.Errorf("labels %v and %v, annotations %v and %v", labels, pod.Labels, annotations, pod.Annotations)
	}
}
