package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// keptPace is the pause between two pulls of a node while the cluster is kept.
const keptPace = 2 * time.Second

// keep leaves the cluster running, tells a person how to look around, and waits
// for Ctrl-C. Nodes keep pulling, slowly; at the end it prints what failed.
func (d *demo) keep(ctx context.Context) error {
	a := d.cluster.Registries[0]
	if err := a.SetUsers(map[string]string{"puller": "installed-with", "license-token": "demo-licence-key", "rotated": "another-password"}); err != nil {
		return err
	}
	if !a.Running() {
		if err := a.Start(ctx); err != nil {
			return fmt.Errorf("switch registry A on again: %w", err)
		}
	}
	dir, err := d.writeManifests()
	if err != nil {
		return err
	}
	d.recorder.SetPhase("kept")
	d.puller.SetPause(keptPace)
	d.invite(dir)
	select {
	case err = <-d.failed:
	case <-ctx.Done():
	}
	failed := d.recorder.Failed("kept")
	d.out.line("\n%d pulls while it was kept, %d failed", len(d.recorder.Pulls("kept")), len(failed))
	d.showFailed(failed)
	return err
}

// writeManifests writes this folder's YAML with the run's CA filled in, ready
// for kubectl.
func (d *demo) writeManifests() (string, error) {
	dir := d.cluster.Run.Path("manifests")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("write manifests: %w", err)
	}
	files, err := fs.Glob(manifests, "*.yaml")
	if err != nil {
		return "", fmt.Errorf("list manifests: %w", err)
	}
	for _, file := range files {
		text, err := d.manifest(file)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write manifests: %w", err)
		}
	}
	return dir, nil
}

func (d *demo) invite(dir string) {
	bin, err := filepath.Abs(filepath.Join(d.options.root, ".parts", "bin"))
	if err != nil {
		bin = ".parts/bin"
	}
	d.out.title("The cluster is left running until Ctrl-C here. In another terminal, the commands of the documentation:")
	d.out.line(strings.ReplaceAll(`
  export KUBECONFIG=%s
  export PATH=%s:$PATH
  d8() { shift; kubectl "$@"; }        # "d8 k" of the documentation is kubectl

  d8 k get nodes
  d8 k get module registry -o wide
  d8 k -n d8-system -o yaml get secret registry-state | yq -C -P '.data | del .state | map_values(@base64d) | .conditions = (.conditions | from_yaml)'
  d8 k apply -f DIR/direct-a.yaml      # also direct-a-rotated.yaml, direct-b.yaml, unmanaged.yaml
  d8 k edit moduleconfig deckhouse
  d8 k get registrynodes

  Both registries are on. Logs: %s
  A terminal on a node: nsenter --net=/proc/PID/ns/net --mount=/proc/PID/ns/mnt sh; tree /etc/containerd/registry.d`, "DIR", dir),
		d.cluster.API.Kubeconfig, bin, d.cluster.Run.Path("logs"))
	for _, n := range d.cluster.Nodes {
		d.out.line("    %-10s PID=%d", n.Name, n.Space.PID())
	}
}
