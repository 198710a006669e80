package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/d8-registry/registry/test/harness/machine"
)

// guard is what breaks a restart: a unit's ExecStartPre that wants the main file
// as it was when somebody signed it. Nobody can know that before.
const (
	guard     = "{ [ ! -e /etc/containerd/signed ] || sha256sum --quiet -c /etc/containerd/signed; }"
	guardFile = "signed"
)

// guardedNodes are three nodes of containerd 1.7 whose restart will fail.
func guardedNodes() map[string]machine.NodeSetup {
	nodes := map[string]machine.NodeSetup{}
	for _, name := range []string{"worker-0", "worker-1", "worker-2"} {
		nodes[name] = machine.NodeSetup{Containerd: "1.7", Guard: guard}
	}
	return nodes
}

// brokenRestart has a containerd that does not come up with its new
// configuration: the node that was approved gets its file back and names why, no
// other node is touched, and after the repair the switch goes on.
func brokenRestart(ctx context.Context, d *demo) error {
	err := d.tellBrokenRestart(ctx)
	return errors.Join(err, d.verdict())
}

func (d *demo) tellBrokenRestart(ctx context.Context) error {
	d.puller.SetPause(secondsApart)
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.sign(); err != nil {
		return err
	}
	stock, err := d.configs()
	if err != nil {
		return err
	}
	var failed string
	broken := &phase{title: "a restart that fails", short: true, free: true}
	if err := d.play(ctx, broken, func(ctx context.Context, p *phase) (err error) {
		failed, err = d.failsOnce(ctx, p, stock)
		return err
	}); err != nil {
		return err
	}
	once := map[string]int{"worker-0": 1, "worker-1": 1, "worker-2": 1}
	return d.play(ctx, &phase{title: "repaired", short: true, restarts: once}, func(ctx context.Context, p *phase) error {
		if err := d.repair(p, failed); err != nil {
			return err
		}
		return d.waitReady(ctx, p, "")
	})
}

// sign has every node of containerd 1.7 refuse a main file that changes.
func (d *demo) sign() error {
	for name := range guardedNodes() {
		n, err := d.cluster.Node(name)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(n.ConfigFile("config.toml"))
		if err != nil {
			return fmt.Errorf("sign the configuration of %s: %w", name, err)
		}
		line := fmt.Sprintf("%x  /etc/containerd/config.toml\n", sha256.Sum256(text))
		if err := os.WriteFile(n.ConfigFile(guardFile), []byte(line), 0o600); err != nil { //nolint:gosec // G703: a node of the demo's own
			return fmt.Errorf("sign the configuration of %s: %w", name, err)
		}
	}
	return nil
}

// failsOnce asks for Direct and waits until the switch stops; it returns the
// node that failed.
func (d *demo) failsOnce(ctx context.Context, p *phase, stock map[string]string) (string, error) {
	if err := d.apply(ctx, "direct-a.yaml"); err != nil {
		return "", err
	}
	d.out.step(p.began, "→", bold, "kubectl apply -f demo/direct-a.yaml")
	const step = "TransitionContainerdConfigReady"
	named := d.waitMessage(ctx, step, "restarts have stopped", readyWithin) // one restart that fails, and one back
	p.expect("the condition says that a restart failed", named == nil, "%v", named)
	if named != nil {
		return "", named
	}
	now, err := d.readStatus(ctx)
	if err != nil {
		return "", err
	}
	c, _ := now.condition(step)
	d.out.step(p.began, "✓", green, "%s is %s: %s", step, c.Status, indented(c.Message))
	select { // what is not to happen would happen now
	case <-ctx.Done():
	case <-time.After(stopsFor):
	}
	return d.oneTouched(p, c.Message, stock)
}

// stopsFor is how long the switch is watched after it stopped.
const stopsFor = 10 * time.Second

// oneTouched looks for the one node that was restarted.
func (d *demo) oneTouched(p *phase, message string, stock map[string]string) (string, error) {
	var touched []string
	for _, n := range d.cluster.Nodes {
		if n.ContainerdStarts() != p.before.containerd[n.Name] {
			touched = append(touched, n.Name)
		}
	}
	p.expect("exactly one node was touched: the one that was approved", len(touched) == 1, "%v", touched)
	left, err := d.configs()
	if err != nil {
		return "", err
	}
	for file, was := range stock {
		p.expect("every main file is as it was, to the byte", left[file] == was, "%s differs", file)
	}
	if len(touched) != 1 {
		return "", fmt.Errorf("containerd was restarted on %v", touched)
	}
	p.expect("the condition names the node", strings.Contains(message, touched[0]), "it says %q", message)
	return touched[0], nil
}

// repair takes the signatures away; another content of the main file tells the
// failed node that somebody was there.
func (d *demo) repair(p *phase, failed string) error {
	for name := range guardedNodes() {
		n, err := d.cluster.Node(name)
		if err != nil {
			return err
		}
		if err := os.Remove(n.ConfigFile(guardFile)); err != nil {
			return fmt.Errorf("repair %s: %w", name, err)
		}
		if name != failed {
			continue
		}
		file := n.ConfigFile("config.toml")
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, append(text, "# repaired\n"...), 0o644) //nolint:gosec // G306: as it was
		}
		if err != nil {
			return fmt.Errorf("repair %s: %w", name, err)
		}
	}
	d.out.step(p.began, "→", bold, "rm /etc/containerd/%s on every node, and a comment in the main file of %s", guardFile, failed)
	return nil
}
