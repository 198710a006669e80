package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/layout"
)

// TestRefersToSeesEveryImage: also those that only newer versions of Kubernetes
// have.
func TestRefersToSeesEveryImage(t *testing.T) {
	t.Parallel()
	names := []layout.Name{layout.Fixed()}
	image := layout.Fixed().Reference(":v1")
	for where, spec := range map[string]corev1.PodSpec{
		"an init container":      {InitContainers: []corev1.Container{{Image: image}}},
		"a container":            {Containers: []corev1.Container{{Image: "r.example/a:1"}, {Image: image}}},
		"an ephemeral container": {EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Image: image}}}},
		"a volume":               {Volumes: []corev1.Volume{{}, {VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image}}}}},
	} {
		if !refersTo(excerpt.Images(&spec), names) {
			t.Errorf("the image of %s is not seen", where)
		}
	}
	if refersTo([]string{"r.example/a:1"}, names) {
		t.Error("an image under another name counts")
	}
}
