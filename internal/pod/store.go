package pod

import (
	"cmp"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/upstream"
)

// ConfigDir is the folder of the node, and of the container, with the files that a store
// serves by. Documented.
const ConfigDir = "/etc/kubernetes/registry"

const (
	// StoreHealth is where the kubelet and the node half ask, on loopback.
	StoreHealth = 5002
	// storeGrace, in seconds, is longer than a store serves on when told to stop: 3 s as before,
	// 25 s for what is under way.
	storeGrace int64 = 45
	// storeTTL is how long something is kept after its last use, if nothing else is said.
	storeTTL = 168 * time.Hour
)

// Store is what the container of a store is started with: all that only a new process takes
// over. What it serves by are files, which it takes over while it runs.
type Store struct {
	// Image is the module's image, at an address where this node can pull it.
	Image string
	// Version is what the controller calls this configuration.
	Version string
	// Address and Port are where clients come: on the node's own network.
	Address string
	Port    int
	// Path is the folder of what is kept, on the node and in the container. It is there, and
	// belongs to User.
	Path string
	// Quota and Floor are in bytes; 0 is by the size of the disk.
	Quota, Floor int64
	// TTL is how long something is kept after its last use; 0 is a week.
	TTL time.Duration
	// BesideEtcd says that an etcd is on the disk of Path. The container sees no folder of
	// etcd; where it is not known, true is the careful answer.
	BesideEtcd bool
}

// Template is the pod, for a DaemonSet and for a static pod. A static pod may refer to no
// object of the API server: so no token, no pull secret, and an image that is on the node.
func (s Store) Template() corev1.PodTemplateSpec {
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{
				v1alpha1.LabelHeritage: v1alpha1.Heritage, "module": v1alpha1.ModuleName, v1alpha1.LabelApp: v1alpha1.PodStore,
				v1alpha1.LabelComponent: v1alpha1.ComponentService, v1alpha1.LabelType: v1alpha1.TypeStore,
			},
			Annotations: map[string]string{v1alpha1.AnnotationConfigVersion: s.Version},
		},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false),
			HostNetwork:                  true,
			// Registries are found as the node finds them, also before the cluster's DNS runs.
			DNSPolicy:                     corev1.DNSDefault,
			PriorityClassName:             "system-node-critical",
			TerminationGracePeriodSeconds: new(storeGrace),
			Containers:                    []corev1.Container{Limited(s.container())},
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			// The kubelet makes neither: it would make them for root, and empty.
			Volumes: []corev1.Volume{hostFolder("config", ConfigDir), hostFolder("data", s.Path)},
		},
	}
	template.Annotations[v1alpha1.AnnotationConfigHash] = upstream.Digest(template)[:16]
	return template
}

func (s Store) container() corev1.Container {
	etcd := ""
	if s.BesideEtcd {
		etcd = s.Path // which is on its own disk, whatever that is
	}
	return corev1.Container{
		Name:    "store",
		Image:   s.Image,
		Command: []string{"registry-store"},
		Args: []string{
			fmt.Sprintf("--listen=[%s]:%d", s.Address, s.Port),
			fmt.Sprintf("--health-listen=127.0.0.1:%d", StoreHealth),
			"--config-dir=" + ConfigDir, "--data=" + s.Path, "--etcd=" + etcd,
			fmt.Sprintf("--quota=%d", cmp.Or(s.Quota, -1)), fmt.Sprintf("--floor=%d", cmp.Or(s.Floor, -1)),
			"--ttl=" + cmp.Or(s.TTL, storeTTL).String(), "--config-version=" + s.Version,
		},
		ImagePullPolicy: corev1.PullIfNotPresent,
		Ports:           []corev1.ContainerPort{{Name: "distribution", ContainerPort: int32(s.Port), HostPort: int32(s.Port), Protocol: corev1.ProtocolTCP}},
		VolumeMounts:    []corev1.VolumeMount{{Name: "config", MountPath: ConfigDir, ReadOnly: true}, {Name: "data", MountPath: s.Path}},
		ReadinessProbe:  Probed(healthOf("/readyz"), 5, 3),
		LivenessProbe:   Probed(healthOf("/healthz"), 10, 6),
		SecurityContext: LockedOnHost(),
		Resources:       Requests("50m", "64Mi"),
	}
}

func healthOf(path string) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Host: "127.0.0.1", Port: intstr.FromInt32(StoreHealth), Path: path, Scheme: corev1.URISchemeHTTP,
	}}
}

func hostFolder(name, path string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: path, Type: new(corev1.HostPathDirectory)},
	}}
}
