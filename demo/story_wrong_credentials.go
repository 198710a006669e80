package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// wrongCredentials shows that credentials which fail never reach a node: the
// condition says so, pulls go on, and correcting them continues the switch.
func wrongCredentials(ctx context.Context, d *demo) error {
	err := d.tellWrongCredentials(ctx)
	return errors.Join(err, d.verdict())
}

func (d *demo) tellWrongCredentials(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.play(ctx, &phase{title: "wrong licence key", short: true}, func(ctx context.Context, p *phase) error {
		before, err := d.registryNodes(ctx)
		if err != nil {
			return err
		}
		if err := d.apply(ctx, "direct-a-wrong.yaml"); err != nil {
			return err
		}
		if err := d.waitRefused(ctx, p); err != nil {
			return err
		}
		if err := d.enoughPulls(ctx, p); err != nil {
			return err
		}
		after, err := d.registryNodes(ctx)
		p.expect("no RegistryNode changed", before == after, "before: %s; after: %s", before, after)
		return err
	}); err != nil {
		return err
	}
	wrong := d.phases[len(d.phases)-1]
	wrong.expect("no host directory changed", wrong.filesFixed+wrong.filesOther == 0, "%d files", wrong.filesFixed+wrong.filesOther)
	return d.play(ctx, &phase{title: "right licence key", short: true}, func(ctx context.Context, p *phase) error {
		return d.switchTo(ctx, p, "direct-a.yaml")
	})
}

// waitRefused waits until the image check says which registry refuses, and why.
func (d *demo) waitRefused(ctx context.Context, p *phase) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return d.until(ctx, "the condition that names registry and error", func(ctx context.Context) error {
		s, err := d.readStatus(ctx)
		if err != nil {
			return err
		}
		c, _ := s.condition("RegistryContainsRequiredImages")
		if c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, registryA) || !strings.Contains(strings.ToLower(c.Message), "unauthorized") && !strings.Contains(c.Message, "401") {
			return fmt.Errorf("it says %q", c.Message)
		}
		d.out.step(p.began, "✓", green, "RegistryContainsRequiredImages is False: %s", strings.TrimSpace(c.Message))
		return nil
	})
}

// registryNodes is what RegistryNodes are and say, as text to compare.
func (d *demo) registryNodes(ctx context.Context) (string, error) {
	var list unstructured.UnstructuredList
	list.SetAPIVersion("registry.deckhouse.io/v1alpha1")
	list.SetKind("RegistryNodeList")
	if err := d.client.List(ctx, &list); err != nil {
		return "", fmt.Errorf("list RegistryNodes: %w", err)
	}
	var text strings.Builder
	for _, item := range list.Items {
		generation, _, _ := unstructured.NestedInt64(item.Object, "status", "generation") // absent is 0
		fmt.Fprintf(&text, "%s serves %d; ", item.GetName(), generation)
	}
	return text.String(), nil
}
