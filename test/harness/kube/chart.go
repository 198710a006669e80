package kube

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/test/harness/machine"
)

const (
	release       = "registry"
	installWithin = 3 * time.Minute
)

// Values are the chart's values for this cluster: the registry of the
// installation, how containerd is restarted on machines without systemd, and
// waits that are shorter than a person's.
func (c *Cluster) Values(version string) map[string]any {
	a := c.Registries[0]
	registry := map[string]any{"imagesRepo": a.Base(), "ca": a.CA}
	for user, password := range a.Users {
		registry["username"], registry["password"] = user, password
	}
	return map[string]any{
		"registry": registry,
		"image":    ModuleRepository + ":" + version,
		"agent":    map[string]any{"extraArgs": []string{"--restart-command=" + machine.RestartCommand}},
		// All nodes have one disk, and what is free on it is not theirs alone.
		"store": map[string]any{"quota": "2Gi", "floor": "64Mi"},
		"controller": map[string]any{"extraArgs": []string{
			"--not-ready-for=20s", "--proxy-idle=10s", "--proxy-idle-max=1m", "--recheck-names=10s",
		}},
	}
}

// ValuesFile writes the values of a version; it holds the credentials.
func (c *Cluster) ValuesFile(version string) (string, error) {
	data, err := yaml.Marshal(c.Values(version))
	if err != nil {
		return "", fmt.Errorf("write values: %w", err)
	}
	path := c.Run.Path("values-" + version + ".yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("write values: %w", err)
	}
	return path, nil
}

// Chart is the folder of the chart.
func (c *Cluster) Chart() string { return filepath.Join(c.options.Source, "charts", "registry") }

// Install installs a version of the module, whose image was pushed, by Helm as
// docs/install.md says, with further arguments of Helm. It returns when an agent
// is ready on every node.
func (c *Cluster) Install(ctx context.Context, version string, extra ...string) error {
	values, err := c.ValuesFile(version)
	if err != nil {
		return err
	}
	args := []string{"install", release, c.Chart(), "-n", "d8-system", "--create-namespace", "-f", values, "--wait", "--timeout", installWithin.String()}
	if _, err := c.Helm(ctx, append(args, extra...)...); err != nil {
		pods, _ := c.Kubectl(ctx, "", "-n", "d8-system", "get", "pods", "-o", "wide") // for the message alone
		return fmt.Errorf("%w\n%s", err, pods)
	}
	return c.WaitAgents(ctx)
}

// WaitAgents returns when an agent is ready on every node. The controller makes
// their DaemonSet some time after its own start.
func (c *Cluster) WaitAgents(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, installWithin)
	defer cancel()
	return waitUntil(ctx, "agents", c.agentsReady)
}

// agentsReady looks itself, for the DaemonSet is OnDelete, of which kubectl does
// not tell when it is rolled out.
func (c *Cluster) agentsReady(ctx context.Context) error {
	var agents appsv1.DaemonSet
	if err := c.Client.Get(ctx, client.ObjectKey{Namespace: "d8-system", Name: "registry-agent"}, &agents); err != nil {
		return err
	}
	s := agents.Status
	if s.ObservedGeneration != agents.Generation || int(s.DesiredNumberScheduled) != len(c.Nodes) || s.NumberReady != s.DesiredNumberScheduled {
		return fmt.Errorf("%d nodes, %d agents wanted, %d ready", len(c.Nodes), s.DesiredNumberScheduled, s.NumberReady)
	}
	return nil
}
