package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// reapplyEvery is how often the GitOps controller applies what it owns.
const reapplyEvery = 3 * time.Second

// gitops has a Deployment owned by kustomize-controller through the whole of the
// main job's switches: it is listed and left alone, and its old name keeps pulling
// from B after A is off.
func gitops(ctx context.Context, d *demo) error {
	err := d.tellGitops(ctx)
	return errors.Join(err, d.verdict())
}

func (d *demo) tellGitops(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.applyAsFlux(ctx); err != nil {
		return err
	}
	if err := d.waitWorkloads(ctx); err != nil {
		return err
	}
	flux, stop := context.WithCancel(ctx)
	defer stop()
	d.background(flux, func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(reapplyEvery):
			}
			if err := d.applyAsFlux(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	})
	for _, s := range []struct{ title, file string }{{"Direct on A", "direct-a.yaml"}, {"registry B", "direct-b.yaml"}} {
		if err := d.play(ctx, &phase{title: s.title, short: true}, func(ctx context.Context, p *phase) error {
			if err := d.switchTo(ctx, p, s.file); err != nil {
				return err
			}
			now, err := d.readStatus(ctx)
			p.expect("a condition names the workload that keeps the old name", slices.ContainsFunc(now.Conditions, func(c metav1.Condition) bool {
				return strings.Contains(c.Message, "owned-by-flux")
			}), "none does")
			return err
		}); err != nil {
			return err
		}
	}
	if err := d.play(ctx, &phase{title: "A switched off"}, func(_ context.Context, _ *phase) error {
		d.cluster.Registries[0].Stop()
		return nil
	}); err != nil {
		return err
	}
	for _, p := range d.phases[1:] {
		p.expect("the workload of the GitOps controller was not touched",
			!slices.Contains(p.changed, "Deployment d8-monitoring/owned-by-flux"), "its template changed")
		p.expect("its old name was in use and pulled", slices.Contains(p.names, registryA+"/"+pathA), "names in use: %v", p.names)
	}
	return nil
}

// applyAsFlux is what kustomize-controller does: server-side apply by force.
func (d *demo) applyAsFlux(ctx context.Context) error {
	text, err := d.manifest("gitops.yaml")
	if err != nil {
		return err
	}
	_, err = d.cluster.Kubectl(ctx, text, "apply", "--server-side", "--force-conflicts", "--field-manager=kustomize-controller", "-f", "-")
	return err
}
