package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// stoppedAgent stops one node's agent for a whole switch: the node is named,
// then excluded once it is NotReady, and catches up later. Meanwhile its pulls by
// the fixed address go through the in-cluster proxy.
func stoppedAgent(ctx context.Context, d *demo) error {
	err := d.tellStoppedAgent(ctx)
	return errors.Join(err, d.verdict())
}

const stopped = "worker-1"

func (d *demo) tellStoppedAgent(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.switched(ctx, "Direct on A", "direct-a.yaml"); err != nil {
		return err
	}
	if err := d.play(ctx, &phase{title: "agent stopped", direct: true, short: true}, func(_ context.Context, p *phase) error {
		// Real addresses need the agent: pods have no credentials for them.
		d.puller.Only(stopped, fixedName)
		d.standins.StopAgent(stopped)
		d.out.step(p.began, "✗", yellow, "the agent of %s is stopped; its node stays Ready", stopped)
		return nil
	}); err != nil {
		return err
	}
	alone := d.phases[len(d.phases)-1]
	alone.expect("without its agent a node pulls through the in-cluster proxy", alone.viaProxy > 0, "the proxy was sent no blob")
	if err := d.play(ctx, &phase{title: "registry B without that agent", direct: true, short: true}, d.switchWithout); err != nil {
		return err
	}
	return d.play(ctx, &phase{title: "agent back", short: true, starts: true}, func(ctx context.Context, p *phase) error {
		d.standins.StartAgent(stopped)
		d.standins.SetReady(stopped, true)
		ctx, cancel := context.WithTimeout(ctx, readyWithin)
		defer cancel()
		err := d.until(ctx, stopped+" to catch up", func(ctx context.Context) error { return d.caughtUp(ctx, stopped) })
		if err == nil {
			d.out.step(p.began, "✓", green, "%s serves the current generation", stopped)
			d.puller.Only(stopped, "")
		}
		p.expect("the node caught up", err == nil, "%v", err)
		return err
	})
}

// switchWithout switches to B: first the silent agent is named and waited for,
// then the node is NotReady and excluded.
func (d *demo) switchWithout(ctx context.Context, p *phase) error {
	old, err := d.readStatus(ctx)
	if err != nil {
		return err
	}
	if err := d.apply(ctx, "direct-b.yaml"); err != nil {
		return err
	}
	named := d.waitMessage(ctx, "TransitionContainerdConfigReady", stopped, wordsWithin)
	p.expect("the node with the silent agent was named", named == nil, "%v", named)
	if named != nil {
		return named
	}
	d.out.step(p.began, "…", yellow, "TransitionContainerdConfigReady waits for %s; the node is now NotReady", stopped)
	d.standins.SetReady(stopped, false)
	if err := d.waitReady(ctx, p, old.Hash); err != nil {
		return err
	}
	excluded := d.waitMessage(ctx, "Ready", stopped, wordsWithin)
	p.expect("the excluded node is named in Ready", excluded == nil, "%v", excluded)
	return nil
}

// wordsWithin is how soon a condition names what it waits for.
const wordsWithin = readyWithin / 4

// waitMessage waits until a condition's message contains a word.
func (d *demo) waitMessage(ctx context.Context, kind, word string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return d.until(ctx, kind+" to name "+word, func(ctx context.Context) error {
		s, err := d.readStatus(ctx)
		if err != nil {
			return err
		}
		c, _ := s.condition(kind)
		if !strings.Contains(c.Message, word) {
			return fmt.Errorf("%s is %s: %q", kind, c.Status, c.Message)
		}
		return nil
	})
}

// caughtUp compares what a node should serve with what it proved to serve.
func (d *demo) caughtUp(ctx context.Context, node string) error {
	var o unstructured.Unstructured
	o.SetAPIVersion("registry.deckhouse.io/v1alpha1")
	o.SetKind("RegistryNode")
	if err := d.client.Get(ctx, types.NamespacedName{Name: node}, &o); err != nil {
		return fmt.Errorf("read RegistryNode %s: %w", node, err)
	}
	wanted, _, err := unstructured.NestedInt64(o.Object, "spec", "generation")
	if err != nil {
		return fmt.Errorf("read RegistryNode %s: %w", node, err)
	}
	serving, _, err := unstructured.NestedInt64(o.Object, "status", "generation")
	if err == nil && serving < wanted {
		err = fmt.Errorf("%s serves generation %d of %d", node, serving, wanted)
	}
	return err
}
