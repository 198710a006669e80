package component

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
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

// agentTemplate is the Pod of an agent. Container serve routes pulls and has no
// rights; container node is root on the host and does not listen. Jitter is the
// number of seconds over which all agents spread their first connections.
func agentTemplate(cfg Config, image string, jitter int) corev1.PodTemplateSpec {
	args := append([]string{"--listen=127.0.0.1:" + strconv.Itoa(cfg.AgentPort)}, cfg.AgentArgs...)
	env := []corev1.EnvVar{fieldEnv("NODE_NAME", "spec.nodeName"), fieldEnv("POD_NAME", "metadata.name"), fieldEnv("POD_NAMESPACE", "metadata.namespace"), fieldEnv("POD_UID", "metadata.uid")}
	state := corev1.VolumeMount{Name: "state", MountPath: "/var/lib/registry-agent"}
	serve := corev1.Container{
		Name: "serve", Image: image, Command: []string{"registry-agent", "serve"}, Args: args, Env: env,
		VolumeMounts:    []corev1.VolumeMount{state},
		SecurityContext: lockedOnHost(),
		Resources:       requests("25m", "40Mi"),
	}
	// serve is not root. So root makes its folder before both start.
	prepare := corev1.Container{
		Name: "prepare", Image: image, Command: []string{"registry-agent", "prepare"}, Args: args,
		VolumeMounts:    []corev1.VolumeMount{state},
		SecurityContext: preparing(),
		Resources:       requests("10m", "20Mi"),
	}
	nodeArgs := append([]string{fmt.Sprintf("--jitter=%ds", jitter), "--scripts=" + cmp.Or(cfg.Scripts, "on")}, args...)
	node := corev1.Container{
		Name: "node", Image: image, Command: []string{"registry-agent", "node"}, Args: nodeArgs,
		// No limit of the container: scripts run in it too, and one could be killed. The
		// program has a limit of its own.
		Env: append(slices.Clone(env), corev1.EnvVar{Name: "GOMEMLIMIT", Value: "256MiB"}),
		// Files of the host are reached through /proc/1/root, as are systemd's
		// D-Bus and the shell for scripts. A mount of /etc is not enough: only
		// containerd knows where its main file is, and it is replaced by a rename.
		VolumeMounts:    []corev1.VolumeMount{state, {Name: "containerd", MountPath: "/run/containerd"}},
		SecurityContext: onHost(),
		Resources:       requests("10m", "20Mi"),
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
			Containers:       []corev1.Container{limited(serve), node},
			Tolerations:      []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Affinity:         agentAffinity(),
			Volumes: []corev1.Volume{
				{Name: "state", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/registry-agent", Type: new(corev1.HostPathDirectoryOrCreate)}}},
				// With another runtime the folder is empty, and the agent reports it.
				{Name: "containerd", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/containerd", Type: new(corev1.HostPathDirectoryOrCreate)}}},
			},
		},
	}
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
