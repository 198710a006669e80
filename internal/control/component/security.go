package component

import (
	corev1 "k8s.io/api/core/v1"
)

// nobody is user and group of the image. No user of a node has this number.
const nobody int64 = 64535

const root int64 = 0

// locked is for a container that only computes and uses the network. It passes the
// restricted pod security standard.
//
// It sets no appArmorProfile: the container gets the runtime's profile without it,
// but with it a kubelet without AppArmor refuses the Pod.
func locked() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		RunAsNonRoot:             new(true),
		RunAsUser:                new(nobody),
		// The default is root's group, which may read some of root's files.
		RunAsGroup:     new(nobody),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// lockedOnHost is locked for a container that uses a folder of the node. With
// SELinux, the usual type of containers may not use such a folder.
func lockedOnHost() *corev1.SecurityContext {
	s := locked()
	s.SELinuxOptions = hostType()
	return s
}

// preparing is for the container that gives a folder to another user: root, with
// only the capabilities for that.
func preparing() *corev1.SecurityContext {
	s := lockedOnHost()
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
		SELinuxOptions:         hostType(),
		SeccompProfile:         &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined},
		AppArmorProfile:        &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
	}
}

func hostType() *corev1.SELinuxOptions { return &corev1.SELinuxOptions{Type: "spc_t"} }
