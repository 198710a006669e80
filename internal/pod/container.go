package pod

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/d8-registry/registry/internal/memory"
)

// User is user and group of the image. No user of a node has this number.
const User = 64535

// Locked is for a container that only computes and uses the network. It passes the
// restricted pod security standard.
//
// It sets no appArmorProfile: the container gets the runtime's profile without it,
// but with it a kubelet without AppArmor refuses the Pod.
func Locked() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		RunAsNonRoot:             new(true),
		RunAsUser:                new(int64(User)),
		// The default is root's group, which may read some of root's files.
		RunAsGroup:     new(int64(User)),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// LockedOnHost is Locked for a container that uses a folder of the node. With
// SELinux, the usual type of containers may not use such a folder.
func LockedOnHost() *corev1.SecurityContext {
	s := Locked()
	s.SELinuxOptions = HostType()
	return s
}

// HostType is the SELinux type of what may use the node's files.
func HostType() *corev1.SELinuxOptions { return &corev1.SELinuxOptions{Type: "spc_t"} }

// FieldEnv is a variable with a field of the Pod.
func FieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

// Requests are what the scheduler is told.
func Requests(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}}
}

// MemoryLimit is that of what serves pulls. It holds all connections that may be
// open, see inbound.Pulls, and all downloads that may be under way, which the program
// counts by it (proxy.Downloads): it is not reached by pulls, however many there are.
const MemoryLimit = "1Gi"

// Limited lets a container have MemoryLimit, and tells its program.
func Limited(c corev1.Container) corev1.Container {
	c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(MemoryLimit)}
	c.Env = append(slices.Clone(c.Env), corev1.EnvVar{Name: memory.Variable, ValueFrom: &corev1.EnvVarSource{
		ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory"},
	}})
	return c
}

// Probed is a probe that fails after a number of failures in a row, every few
// seconds. All numbers are set, so that they can be compared with what the API server has.
func Probed(by corev1.ProbeHandler, seconds, failures int32) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: by, PeriodSeconds: seconds, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: failures}
}
