package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/internal/layout"
)

// Images are all image references of a pod.
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
	return images
}

// RefersTo reports whether one of the image references starts with one of the names.
func RefersTo(images []string, names []layout.Name) bool {
	return slices.ContainsFunc(images, func(image string) bool {
		_, _, ok := layout.MatchName(names, image)
		return ok
	})
}

// imagesOf are the image references of an object; false for a kind that has none.
func imagesOf(object client.Object) ([]string, bool) {
	switch o := object.(type) {
	case *Pod:
		return o.Images, true
	case *Maker:
		return o.Images, true
	}
	if w := WorkloadOf(object); w.Template != nil {
		return Images(&w.Template.Spec), true
	}
	return nil, false
}

// PullsWith reports whether a list of pull secrets has one of this name.
func PullsWith(secrets []corev1.LocalObjectReference, name string) bool {
	return slices.ContainsFunc(secrets, func(l corev1.LocalObjectReference) bool { return l.Name == name })
}
