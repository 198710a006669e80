package component

import (
	"cmp"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/pod"
)

// nodesPerSecond is how many agents may connect to a new registry within a second.
const nodesPerSecond = 50

// agent is the component that runs on every node.
func agent(cfg Config) Component {
	return Component{
		Kind: "DaemonSet", Name: v1alpha1.DaemonSetAgent,
		Wanted: func(state.Document) bool { return true },
		Template: func(image string, nodes int) corev1.PodTemplateSpec {
			return agentTemplate(cfg, image, nodes/nodesPerSecond)
		},
	}
}

// agentGrace, in seconds, is longer than container serve drains (20 s), and longer
// than a restart of containerd by container node usually takes.
const agentGrace int64 = 120

// serveGrace is how long container serve may take to end after it has hung: containerd
// waits ten seconds for it at each request meanwhile, and one that hangs drains nothing.
const serveGrace int64 = 30

// agentTemplate is the Pod of an agent. Container serve routes pulls and has no
// rights; container node is root on the host and does not listen. Jitter is the
// number of seconds over which all agents spread their first connections.
func agentTemplate(cfg Config, image string, jitter int) corev1.PodTemplateSpec {
	args := append([]string{"--listen=127.0.0.1:" + strconv.Itoa(cfg.AgentPort)}, cfg.AgentArgs...)
	env := []corev1.EnvVar{pod.FieldEnv("NODE_NAME", "spec.nodeName"), pod.FieldEnv("POD_NAME", "metadata.name"), pod.FieldEnv("POD_NAMESPACE", "metadata.namespace"), pod.FieldEnv("POD_UID", "metadata.uid")}
	state := corev1.VolumeMount{Name: "state", MountPath: "/var/lib/registry-agent"}
	serve := corev1.Container{
		Name: "serve", Image: image, Command: []string{"registry-agent", "serve"}, Args: args, Env: env,
		VolumeMounts:    []corev1.VolumeMount{state},
		StartupProbe:    pod.Probed(serving(args), 5, 120),
		LivenessProbe:   pod.Probed(serving(args), 20, 3),
		SecurityContext: pod.LockedOnHost(),
		Resources:       pod.Requests("25m", "40Mi"),
	}
	serve.LivenessProbe.TerminationGracePeriodSeconds = new(serveGrace)
	// serve is not root. So root makes its folder before both start.
	prepare := corev1.Container{
		Name: "prepare", Image: image, Command: []string{"registry-agent", "prepare"}, Args: args,
		VolumeMounts:    []corev1.VolumeMount{state},
		SecurityContext: preparing(),
		Resources:       pod.Requests("10m", "20Mi"),
	}
	nodeArgs := append([]string{fmt.Sprintf("--jitter=%ds", jitter), "--scripts=" + cmp.Or(cfg.Scripts, "on"), "--alive-file=" + aliveFile}, args...)
	node := corev1.Container{
		Name: "node", Image: image, Command: []string{"registry-agent", "node"}, Args: nodeArgs,
		// No limit of the container: scripts run in it too, and one could be killed. The
		// program has a limit of its own.
		Env: append(slices.Clone(env), corev1.EnvVar{Name: "GOMEMLIMIT", Value: "256MiB"}),
		// Files of the host are reached through /proc/1/root, as are systemd's
		// D-Bus and the shell for scripts. A mount of /etc is not enough: only
		// containerd knows where its main file is, and it is replaced by a rename.
		VolumeMounts:    []corev1.VolumeMount{state, {Name: "containerd", MountPath: "/run/containerd"}, {Name: "alive", MountPath: path.Dir(aliveFile)}},
		StartupProbe:    pod.Probed(stamped(), 5, 120),
		LivenessProbe:   pod.Probed(stamped(), 60, 3),
		SecurityContext: onHost(),
		Resources:       pod.Requests("10m", "20Mi"),
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labelsOf(v1alpha1.DaemonSetAgent, nil)},
		Spec: corev1.PodSpec{
			ServiceAccountName: "registry-agent",
			// Both halves talk to the API server.
			AutomountServiceAccountToken: new(true),
			HostNetwork:                  true,
			HostPID:                      true,
			DNSPolicy:                    corev1.DNSDefault,
			PriorityClassName:            "system-node-critical",

			TerminationGracePeriodSeconds: new(agentGrace),

			ImagePullSecrets: []corev1.LocalObjectReference{{Name: v1alpha1.SecretBootstrap}},
			InitContainers:   []corev1.Container{prepare},
			Containers:       []corev1.Container{pod.Limited(serve), node},
			Tolerations:      []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Affinity:         agentAffinity(),
			Volumes: []corev1.Volume{
				{Name: "state", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/registry-agent", Type: new(corev1.HostPathDirectoryOrCreate)}}},
				// With another runtime the folder is empty, and the agent reports it.
				{Name: "containerd", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/containerd", Type: new(corev1.HostPathDirectoryOrCreate)}}},
				{Name: "alive", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("1Mi"))}}},
			},
		},
	}
}

// aliveFile is stamped by container node, which does not listen.
const aliveFile = "/run/registry-agent/alive"

// serving asks container serve where containerd asks it too. The certificate is the
// agent's own, which the kubelet does not check.
func serving(args []string) corev1.ProbeHandler {
	get := &corev1.HTTPGetAction{Scheme: corev1.URISchemeHTTPS, Path: v1alpha1.PathAlive}
	for _, arg := range args { // the last one counts: users may have their own
		address, is := strings.CutPrefix(arg, "--listen=")
		if host, port, err := net.SplitHostPort(address); is && err == nil {
			get.Host, get.Port = host, intstr.Parse(port)
		}
	}
	return corev1.ProbeHandler{HTTPGet: get}
}

// stamped asks container node. Each question is a process, so it is asked seldom.
func stamped() corev1.ProbeHandler {
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"registry-agent", "alive", "--alive-file=" + aliveFile}}}
}

// agentAffinity keeps the agent off the nodes for which cluster.WantsAgent is
// false.
func agentAffinity() *corev1.Affinity {
	var not []corev1.NodeSelectorRequirement
	for _, l := range cluster.AgentKeepsOff() {
		not = append(not, corev1.NodeSelectorRequirement{Key: l.Key, Operator: corev1.NodeSelectorOpNotIn, Values: []string{l.Value}})
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: not}},
	}}}
}
