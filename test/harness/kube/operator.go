package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Kubectl runs kubectl as cluster admin, with an optional document on its
// standard input, and returns what it printed. The error holds what it said.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	return c.tool(ctx, stdin, "kubectl", args...)
}

// Helm runs Helm as cluster admin.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	return c.tool(ctx, "", "helm", args...)
}

// Apply applies documents.
func (c *Cluster) Apply(ctx context.Context, documents string) error {
	_, err := c.Kubectl(ctx, documents, "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

// Rollout waits until a workload, "deployment/NAME", runs as it says.
func (c *Cluster) Rollout(ctx context.Context, namespace, workload string, within time.Duration) error {
	_, err := c.Kubectl(ctx, "", "-n", namespace, "rollout", "status", workload, "--timeout="+within.String())
	if err != nil {
		pods, _ := c.Kubectl(ctx, "", "-n", namespace, "get", "pods", "-o", "wide") // for the message alone
		return errors.Join(err, errors.New(pods))
	}
	return nil
}

// d8 is what the README puts in the place of the platform's program: the
// documents' commands begin with `d8 k`.
const d8 = `d8() { shift; kubectl "$@"; }
`

// Shell runs a script as an operator at a terminal does: kubectl, yq and helm
// are there, and d8.
func (c *Cluster) Shell(ctx context.Context, script string) (stdout, stderr string, err error) {
	return c.run(ctx, "", "bash", "-c", d8+script)
}

func (c *Cluster) tool(ctx context.Context, stdin, name string, args ...string) (string, error) {
	stdout, stderr, err := c.run(ctx, stdin, c.options.Binaries.Path(name), args...)
	if err != nil {
		return stdout, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr))
	}
	return stdout, nil
}

func (c *Cluster) run(ctx context.Context, stdin, program string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = c.Environment()
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// Environment is that of an operator's shell: the tools, and access as cluster
// admin. Nothing of the user's own.
func (c *Cluster) Environment() []string {
	return []string{
		"KUBECONFIG=" + c.API.Kubeconfig, "HOME=" + c.Run.Dir, "TERM=dumb",
		"PATH=" + filepath.Dir(c.options.Binaries.Path("kubectl")) + ":" + c.options.Binaries.Dir + ":/usr/local/bin:/usr/bin:/bin",
	}
}
