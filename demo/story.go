package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	corev1 "k8s.io/api/core/v1"
)

// plans are the steps of the switches to the modes, in order.
func plans(mode string) []string {
	switch mode {
	case "Proxy":
		return []string{
			"RegistryContainsRequiredImages", "ContainerdConfigPreflightReady", "NodeServicesReady", "TransitionContainerdConfigReady",
			"DeckhouseRegistrySwitchReady", "FinalContainerdConfigReady", "CleanupInClusterProxy",
		}
	case "Direct":
		return []string{
			"RegistryContainsRequiredImages", "ContainerdConfigPreflightReady", "TransitionContainerdConfigReady",
			"InClusterProxyReady", "DeckhouseRegistrySwitchReady", "FinalContainerdConfigReady",
		}
	}
	return []string{
		"RegistryContainsRequiredImages", "TransitionContainerdConfigReady", "DeckhouseRegistrySwitchReady",
		"FinalContainerdConfigReady", "CleanupInClusterProxy",
	}
}

// change is one switch of a story, and the settings that undo it.
type change struct {
	name, mode string
	file, undo string
}

func changes() []change {
	return []change{
		{"Unmanaged to Direct", "Direct", "direct-a.yaml", "unmanaged.yaml"},
		{"Direct to another registry", "Direct", "direct-b.yaml", "direct-a.yaml"},
		{"Direct to Unmanaged", "Unmanaged", "unmanaged.yaml", "direct-b.yaml"},
	}
}

// begin waits until the controller knows the installation.
func (d *demo) begin(ctx context.Context) error {
	return d.play(ctx, &phase{title: "Unmanaged on A", short: true}, func(ctx context.Context, p *phase) error {
		return d.waitReady(ctx, p, "")
	})
}

// switched is a phase that reaches the settings of a file.
func (d *demo) switched(ctx context.Context, title, file string) error {
	return d.play(ctx, &phase{title: title, short: true}, func(ctx context.Context, p *phase) error {
		return d.switchTo(ctx, p, file)
	})
}

// until a step of the settings applied last is True; an empty step: until the
// controller has seen the settings. It returns at once when the switch is over.
func (d *demo) waitStep(ctx context.Context, oldHash, step string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		s, err := d.readStatus(ctx)
		if err != nil {
			return err
		}
		c, _ := s.condition(step)
		if s.Hash != oldHash && (step == "" || s.ready() || c.Status == "True") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for step %s: %s", step, s.waitingFor())
		case <-time.After(lookEvery / 5):
		}
	}
}

// secret reads a Secret of d8-system.
func (d *demo) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	var s corev1.Secret
	if err := d.client.Get(ctx, types.NamespacedName{Namespace: "d8-system", Name: name}, &s); err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return &s, nil
}

// stepName is how a step is called in titles.
func stepName(step string) string {
	if step == "" {
		return "at the start"
	}
	return "after " + step
}
