package controller

import (
	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// undoes reports whether the wanted template takes back an upgrade that failed,
// or that had only begun: its version runs, or that of the template which is there
// runs nowhere. The switch under way may be waiting for just this, and what runs
// already is started with no argument that it does not know.
func (s *sight) undoes(want, have corev1.PodTemplateSpec) bool {
	wanted, there := revisionOf(&want), revisionOf(&have)
	if wanted == there {
		return false
	}
	runs, stumbled := map[string]bool{}, false
	for i := range s.inv.pods {
		pod := &s.inv.pods[i]
		if pod.Namespace != v1alpha1.Namespace || pod.Labels[labelApp] != want.Labels[labelApp] || pod.DeletionTimestamp != nil {
			continue
		}
		revision := revisionOf(pod)
		runs[revision] = runs[revision] || podReady(pod)
		stumbled = stumbled || revision == there && stumbles(pod) != ""
	}
	return runs[wanted] || stumbled && !runs[there]
}

// stumbling are outdated agents that do not come up.
func (a agents) stumbling() []*corev1.Pod {
	var pods []*corev1.Pod
	for _, o := range a.outdated {
		if stumbles(o.pod) != "" {
			pods = append(pods, o.pod)
		}
	}
	return pods
}
