package excerpt

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Images are all image references of a pod, sorted and each once: init container,
// container and sidecar often have one image, and whoever may make a Pod may make one
// of many thousand containers.
func Images(spec *corev1.PodSpec) []string {
	images := make([]string, 0, len(spec.InitContainers)+len(spec.Containers))
	for i := range spec.InitContainers {
		images = append(images, spec.InitContainers[i].Image)
	}
	for i := range spec.Containers {
		images = append(images, spec.Containers[i].Image)
	}
	for i := range spec.EphemeralContainers {
		images = append(images, spec.EphemeralContainers[i].Image)
	}
	for i := range spec.Volumes {
		if v := spec.Volumes[i].Image; v != nil {
			images = append(images, v.Reference)
		}
	}
	slices.Sort(images)
	return slices.Compact(images)
}

// PullsWith reports whether a list of pull secrets has one of this name.
func PullsWith(secrets []corev1.LocalObjectReference, name string) bool {
	return slices.ContainsFunc(secrets, func(l corev1.LocalObjectReference) bool { return l.Name == name })
}
