package component

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// An agent that hangs looks like one that works, if nobody asks it.
func TestEveryContainerIsProbed(t *testing.T) {
	t.Parallel()
	cfg := someConfig
	cfg.AgentPort = 6001
	for _, c := range List(cfg) {
		template := c.Template("registry:v1", 3)
		for _, container := range template.Spec.Containers {
			if container.LivenessProbe == nil {
				t.Errorf("%s: nobody asks whether %s is alive", c.Name, container.Name)
			}
			// A probe with a zero would be told apart from the API server's default.
			for _, p := range []*corev1.Probe{container.LivenessProbe, container.StartupProbe, container.ReadinessProbe} {
				if p != nil && slices.Contains([]int32{p.PeriodSeconds, p.TimeoutSeconds, p.SuccessThreshold, p.FailureThreshold}, 0) {
					t.Errorf("%s, %s: %+v", c.Name, container.Name, p)
				}
			}
		}
	}
	agent := agentTemplate(cfg, "registry:v1", 0)
	for _, container := range agent.Spec.Containers {
		start, live := container.StartupProbe, container.LivenessProbe
		if start == nil || start.PeriodSeconds*start.FailureThreshold < 600 {
			t.Errorf("%s: a slow node has no time to start it: %+v", container.Name, start)
		}
		if live.PeriodSeconds*live.FailureThreshold > 180 || live.FailureThreshold < 3 {
			t.Errorf("%s: %+v", container.Name, live)
		}
	}
	serve, node := agent.Spec.Containers[0], agent.Spec.Containers[1]
	if grace := serve.LivenessProbe.TerminationGracePeriodSeconds; grace == nil || *grace > 30 {
		t.Errorf("a serve that hangs stays for %v", grace)
	}
	get := serve.LivenessProbe.HTTPGet
	if get == nil || get.Host != "127.0.0.1" || get.Port.IntValue() != 6001 || get.Scheme != corev1.URISchemeHTTPS || get.Path != "/healthz" {
		t.Errorf("serve: %+v", serve.LivenessProbe)
	}
	cfg.AgentArgs = []string{"--verbose", "--listen=127.0.0.9:7001"}
	if get := agentTemplate(cfg, "registry:v1", 0).Spec.Containers[0].LivenessProbe.HTTPGet; get.Host != "127.0.0.9" || get.Port.IntValue() != 7001 {
		t.Errorf("with an address of the user's serve is asked at %+v", get)
	}
	exec := node.LivenessProbe.Exec
	if exec == nil || exec.Command[1] != "alive" || !slices.Contains(node.Args, exec.Command[2]) {
		t.Fatalf("node is asked %+v, and stamps %q", node.LivenessProbe, node.Args)
	}
	mounted := slices.ContainsFunc(node.VolumeMounts, func(m corev1.VolumeMount) bool {
		return exec.Command[2] == "--alive-file="+m.MountPath+"/alive" && slices.ContainsFunc(agent.Spec.Volumes, func(v corev1.Volume) bool {
			return v.Name == m.Name && v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
		})
	})
	if !mounted {
		t.Error("the stamp is not in memory")
	}
}
