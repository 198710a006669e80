package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/d8-registry/registry/test/harness/machine"
)

// reverts changes its mind at each step of each switch: every time the cluster
// ends in the old state, and no pull fails.
func reverts(ctx context.Context, d *demo) error {
	err := d.tellReverts(ctx)
	return errors.Join(err, d.verdict())
}

func (d *demo) tellReverts(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	for _, c := range changes() {
		for _, step := range append([]string{""}, plans(c.mode)...) {
			if err := d.revertAt(ctx, c, step); err != nil {
				return err
			}
		}
		if err := d.switched(ctx, c.name, c.file); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) revertAt(ctx context.Context, c change, step string) error {
	old, err := d.platformBases(ctx)
	if err != nil {
		return err
	}
	was, err := d.readStatus(ctx)
	if err != nil {
		return err
	}
	p := &phase{title: c.name + ", reverted " + stepName(step), short: true}
	return d.play(ctx, p, func(ctx context.Context, p *phase) error {
		if err := d.apply(ctx, c.file); err != nil {
			return err
		}
		if err := d.waitStep(ctx, was.Hash, step); err != nil {
			return err
		}
		seen, err := d.readStatus(ctx)
		if err != nil {
			return err
		}
		d.out.step(p.began, "←", bold, "kubectl apply -f demo/%s while %s", c.undo, firstLine(seen.waitingFor()))
		if err := d.switchTo(ctx, p, c.undo); err != nil {
			return err
		}
		now, err := d.readStatus(ctx)
		if err != nil {
			return err
		}
		bases, err := d.platformBases(ctx)
		p.expect("a revert ends in the old state", now.Mode == was.Mode && bases == old, "mode %s with images from %s, was %s with %s", now.Mode, bases, was.Mode, old)
		return err
	})
}

// platformBases are the names that templates of platform workloads start with,
// our own left out.
func (d *demo) platformBases(ctx context.Context) (string, error) {
	templates, err := machine.Templates(ctx, d.client)
	if err != nil {
		return "", err
	}
	found := map[string]bool{}
	for _, t := range templates {
		kind, name, _ := strings.Cut(t.By, " ")
		if kind == "Pod" || kind == "ReplicaSet" || strings.HasPrefix(name, "d8-system/registry-") {
			continue
		}
		for _, image := range machine.Images(t.Spec) {
			for _, base := range d.bases() {
				if strings.HasPrefix(image, base) {
					found[base] = true
				}
			}
		}
	}
	var names []string
	for _, base := range d.bases() {
		if found[base] {
			names = append(names, base)
		}
	}
	return fmt.Sprint(names), nil
}
