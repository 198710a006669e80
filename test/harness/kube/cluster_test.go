package kube

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCluster starts everything, installs the module, and prints how long each
// step took.
func TestCluster(t *testing.T) {
	r, b, log := newRun(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var c *Cluster
	const version = "v0.1.0"
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"nodes are Ready", func(ctx context.Context) (err error) {
			c, err = Start(ctx, r, Options{Binaries: b, Source: source()}, log)
			return err
		}},
		{"roles are as the documents print them", func(ctx context.Context) error { return c.expectRoles(ctx) }},
		{"the module's image is built and pushed", func(ctx context.Context) error { return c.PushModule(ctx, version) }},
		{"the chart is installed, agents are ready", func(ctx context.Context) error { return c.Install(ctx, version) }},
		{"CRDs, Module and state are there", func(ctx context.Context) error { return c.expectModule(ctx) }},
		{"the platform runs", func(ctx context.Context) error { return c.ApplyPlatform(ctx) }},
		{"the client pulls", func(ctx context.Context) error { return c.StartClient(ctx, "w2") }},
		{"a machine is added, and its agent is ready", func(ctx context.Context) error {
			if _, err := c.AddNode(ctx, NodeOptions{Name: "w3", Containerd: "1.6"}); err != nil {
				return err
			}
			return c.WaitAgents(ctx)
		}},
		{"and taken away", func(ctx context.Context) error { return c.RemoveNode(ctx, "w3") }},
		{"no pull failed meanwhile", func(ctx context.Context) error { return c.expectPulls(ctx) }},
	} {
		started := time.Now()
		if err := step.do(ctx); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		t.Logf("%5.1f s  %s", time.Since(started).Seconds(), step.what)
	}
}

func (c *Cluster) expectRoles(ctx context.Context) error {
	out, errOut, err := c.Shell(ctx, "d8 k get nodes")
	if err != nil {
		return fmt.Errorf("%w: %s", err, errOut)
	}
	if !strings.Contains(out, "control-plane,master") || strings.Count(out, " Ready ") != len(c.Nodes) {
		return fmt.Errorf("d8 k get nodes prints\n%s", out)
	}
	return nil
}

func (c *Cluster) expectModule(ctx context.Context) error {
	out, errOut, err := c.Shell(ctx, `set -e
kubectl get crd moduleconfigs.deckhouse.io modules.deckhouse.io nodegroupconfigurations.deckhouse.io -o name >&2
kubectl wait module/registry --for=condition=IsReady --timeout=60s >&2
d8 k get module registry -o wide
until d8 k -n d8-system -o yaml get secret registry-state | yq -e '.data.mode' >&2; do sleep 0.2; done
d8 k -n d8-system -o yaml get secret registry-state | yq -C -P '.data | del .state | map_values(@base64d) | .conditions = (.conditions | from_yaml)'`)
	if err != nil || !strings.Contains(out, "Unmanaged") {
		return fmt.Errorf("%w: %s%s", err, errOut, out)
	}
	return nil
}

func (c *Cluster) expectPulls(ctx context.Context) error {
	counts, err := c.ClientCounts(ctx)
	if err != nil {
		return err
	}
	if counts.Failed+counts.Unread > 0 || counts.ByAddress[c.Registries[0].Base()] == 0 {
		return fmt.Errorf("the client: %+v", counts)
	}
	return nil
}
