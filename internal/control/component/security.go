package component

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/d8-registry/registry/internal/pod"
)

const root int64 = 0

// preparing is for the container that gives a folder to another user: root, with
// only the capabilities for that.
func preparing() *corev1.SecurityContext {
	s := pod.LockedOnHost()
	s.RunAsNonRoot, s.RunAsUser, s.RunAsGroup = new(false), new(root), new(root)
	// To change the owner, to enter the folder after that, to set its mode.
	s.Capabilities.Add = []corev1.Capability{"CHOWN", "DAC_OVERRIDE", "FOWNER"}
	return s
}

// onHost is for a container that is root on the node. It works through /proc/1 of
// the host, which any restriction would prevent. What a privileged container has
// anyway is set too, so that users see it in the Pod.
func onHost() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		Privileged:             new(true),
		RunAsUser:              new(root),
		RunAsGroup:             new(root),
		ReadOnlyRootFilesystem: new(true), // of the container; the host's files are not below it
		SELinuxOptions:         pod.HostType(),
		SeccompProfile:         &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined},
		AppArmorProfile:        &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
	}
}
