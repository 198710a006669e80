package component

import (
	corev1 "k8s.io/api/core/v1"
)

// nobody is the user of the image, and the group: nobody's on a node.
const nobody int64 = 64535

// locked is a container that can do nothing but compute and talk. It passes the
// restricted pod security standard.
//
// No appArmorProfile: without one a container gets the runtime's where there is
// AppArmor; asked for by name, a kubelet without AppArmor refuses the whole Pod.
func locked() *corev1.SecurityContext {
	no, yes, user, group := false, true, nobody, nobody
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no,
		ReadOnlyRootFilesystem:   &yes,
		RunAsNonRoot:             &yes,
		RunAsUser:                &user,
		// Otherwise it is root's group, which owns some of what is root's.
		RunAsGroup:     &group,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// lockedOnHost is locked for a container that uses a folder of the node. Where
// SELinux is enforced such a folder has a label that the containers' usual type
// may not touch, and nothing puts another on it.
func lockedOnHost() *corev1.SecurityContext {
	s := locked()
	s.SELinuxOptions = hostType()
	return s
}

// preparing gives folders away and does nothing else: root with the capabilities
// of that.
func preparing() *corev1.SecurityContext {
	s := lockedOnHost()
	no, root := false, int64(0)
	s.RunAsNonRoot, s.RunAsUser, s.RunAsGroup = &no, &root, &root
	// To give away, to go into what was given away, to close it to others.
	s.Capabilities.Add = []corev1.Capability{"CHOWN", "DAC_OVERRIDE", "FOWNER"}
	return s
}

// onHost is root on the node: it enters the host's namespaces by /proc/1, which
// every one of these would refuse. What a privileged container gets anyway is
// said, for whoever looks at the Pod.
func onHost() *corev1.SecurityContext {
	yes, root := true, int64(0)
	return &corev1.SecurityContext{
		Privileged:             &yes,
		RunAsUser:              &root,
		RunAsGroup:             &root,
		ReadOnlyRootFilesystem: &yes, // its own: the host's is not below it
		SELinuxOptions:         hostType(),
		SeccompProfile:         &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined},
		AppArmorProfile:        &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
	}
}

func hostType() *corev1.SELinuxOptions { return &corev1.SELinuxOptions{Type: "spc_t"} }
