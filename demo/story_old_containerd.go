package main

import (
	"context"
	_ "embed" // for custom-auth.toml
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/d8-registry/registry/test/harness/machine"
)

//go:embed custom-auth.toml
var customAuth string

const (
	// secondsApart is the pause between two pulls where containerd restarts.
	secondsApart = time.Second
	legacyFile   = "conf.d/custom-auth.toml"
	// ofTheUser is what the documentation's script writes.
	ofTheUser = "registry.d/registry.io/hosts.toml"
)

// oldNodes are those of oldContainerd: one of each version, one of them with
// credentials in the legacy format.
func oldNodes() map[string]machine.NodeSetup {
	return map[string]machine.NodeSetup{
		"worker-0": {Containerd: "1.7"},
		"worker-1": {Containerd: "1.6", Files: map[string]string{legacyFile: customAuth}},
	}
}

// oldContainerd prepares a cluster with nodes of containerd 1.6 and 1.7 as the
// documentation says, switches it to Direct and to another registry, and has it
// go back to Unmanaged and to the legacy format.
func oldContainerd(ctx context.Context, d *demo) error {
	err := d.tellOldContainerd(ctx)
	return errors.Join(err, d.verdict())
}

func (d *demo) tellOldContainerd(ctx context.Context) error {
	d.puller.SetPause(secondsApart)
	stock, err := d.configs()
	if err != nil {
		return err
	}
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.play(ctx, &phase{title: "Mirror Auth by a script", short: true}, d.runScript); err != nil {
		return err
	}
	once := map[string]int{"worker-0": 1, "worker-1": 1}
	if err := d.play(ctx, &phase{title: "Direct on A", short: true, restarts: once}, d.switchPrepared); err != nil {
		return err
	}
	for _, s := range []struct {
		title, file string
		direct      bool
	}{{"registry B", "direct-b.yaml", true}, {"Unmanaged on B", "unmanaged.yaml", false}} {
		if err := d.play(ctx, &phase{title: s.title, short: true, direct: s.direct}, func(ctx context.Context, p *phase) error {
			return d.switchTo(ctx, p, s.file)
		}); err != nil {
			return err
		}
	}
	return d.play(ctx, &phase{title: "back to the legacy format", short: true, restarts: once}, func(ctx context.Context, p *phase) error {
		if err := d.backToLegacy(ctx, p); err != nil {
			return err
		}
		return d.asBefore(p, stock)
	})
}

// runScript applies the NodeGroupConfiguration of the documentation.
func (d *demo) runScript(ctx context.Context, p *phase) error {
	if err := d.apply(ctx, "custom-registry.yaml"); err != nil {
		return err
	}
	d.out.step(p.began, "→", bold, "kubectl apply -f demo/custom-registry.yaml")
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	err := d.until(ctx, ofTheUser+" on every node", func(context.Context) error {
		for _, n := range d.cluster.Nodes {
			if text, err := os.ReadFile(n.ConfigFile(ofTheUser)); err != nil || string(text) != hostsOfTheUser {
				return fmt.Errorf("%s has %q (%w)", n.Name, text, err)
			}
		}
		return nil
	})
	p.expect("the documentation's script wrote its file on every node", err == nil, "%v", err)
	if err != nil {
		return err
	}
	out, err := d.cluster.Kubectl(ctx, "", "get", "nodegroupconfiguration")
	d.out.step(p.began, "✓", green, "kubectl get nodegroupconfiguration\n               %s", indented(out))
	return err
}

// hostsOfTheUser is what the script's heredoc says.
const hostsOfTheUser = `[host]
  [host."https://registry.deckhouse.ru"]
    capabilities = ["pull", "resolve"]
    skip_verify = true
    ca = ["/path/to/ca.crt"]
    [host."https://registry.deckhouse.ru".auth]
      username = "username"
      password = "password"
      # If providing auth string:
      auth = "<base64>"
`

// switchPrepared switches to Direct: the node with the legacy file is named, and
// the switch goes on when the file is deleted.
func (d *demo) switchPrepared(ctx context.Context, p *phase) error {
	old, err := d.readStatus(ctx)
	if err != nil {
		return err
	}
	if err := d.apply(ctx, "direct-a.yaml"); err != nil {
		return err
	}
	d.out.step(p.began, "→", bold, "kubectl apply -f demo/direct-a.yaml")
	named := d.waitMessage(ctx, "ContainerdConfigPreflightReady", "worker-1", wordsWithin)
	p.expect("the node with credentials in the legacy format is named", named == nil, "%v", named)
	if named != nil {
		return named
	}
	now, err := d.readStatus(ctx)
	if err != nil {
		return err
	}
	c, _ := now.condition("ContainerdConfigPreflightReady")
	d.out.step(p.began, "…", yellow, "ContainerdConfigPreflightReady is %s: %s", c.Status, indented(c.Message))
	p.expect("the condition names its file", strings.Contains(c.Message, filepath.Base(legacyFile)), "it says %q", c.Message)
	worker, err := d.cluster.Node("worker-1")
	if err != nil {
		return err
	}
	if err := os.Remove(worker.ConfigFile(legacyFile)); err != nil {
		return fmt.Errorf("remove the legacy file: %w", err)
	}
	d.out.step(p.began, "→", bold, "worker-1: rm /etc/containerd/%s", legacyFile)
	return d.waitReady(ctx, p, old.Hash)
}

// backToLegacy deletes the layout's Secret, as the documentation says.
func (d *demo) backToLegacy(ctx context.Context, p *phase) error {
	if _, err := d.cluster.Kubectl(ctx, "", "-n", "d8-system", "delete", "secret", "registry-bashible-config"); err != nil {
		return err
	}
	d.out.step(p.began, "→", bold, "kubectl -n d8-system delete secret registry-bashible-config")
	// Only old revisions have the other names: nobody is to roll back to those
	// any more.
	for _, n := range d.cluster.Nodes {
		d.puller.Only(n.Name, registryB+"/"+pathB)
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	err := d.until(ctx, "the way back to begin", func(ctx context.Context) error {
		s, err := d.readStatus(ctx)
		if err == nil && s.ready() {
			final, _ := s.condition("FinalContainerdConfigReady")
			err = errors.New("the condition Ready is still True; " + final.Message)
		}
		return err
	})
	p.expect("Ready is False while nodes go back", err == nil, "%v", err)
	if err != nil {
		return err
	}
	if err := d.waitReady(ctx, p, ""); err != nil {
		return err
	}
	_, err = d.secret(ctx, "registry-bashible-config")
	p.expect("the Secret does not come back", apierrors.IsNotFound(err), "%v", err)
	return nil
}

// configs are the files below /etc/containerd of every node.
func (d *demo) configs() (map[string]string, error) {
	files := map[string]string{}
	for _, n := range d.cluster.Nodes {
		root := n.ConfigFile("")
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			text, err := os.ReadFile(path) //nolint:gosec // G122: a node of the demo's own
			files[n.Name+" "+strings.TrimPrefix(path, root)] = string(text)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", n.Name, err)
		}
	}
	return files, nil
}

// asBefore compares nodes with what they were before the story, but for what the
// user himself did.
func (d *demo) asBefore(p *phase, stock map[string]string) error {
	left, err := d.configs()
	if err != nil {
		return err
	}
	want := maps.Clone(stock)
	delete(want, "worker-1 /"+legacyFile)
	for _, n := range d.cluster.Nodes {
		want[n.Name+" /"+ofTheUser] = hostsOfTheUser
	}
	var differs []string
	for file, text := range left {
		if was, ok := want[file]; !ok || was != text {
			differs = append(differs, file)
		}
		delete(want, file)
	}
	for file := range want {
		differs = append(differs, file+" (gone)")
	}
	p.expect("every file below /etc/containerd is as it was, to the byte", len(differs) == 0, "%s", strings.Join(differs, ", "))
	return nil
}
