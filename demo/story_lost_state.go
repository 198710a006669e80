package main

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lostState deletes Secret registry-state, or puts an older copy back, at each
// step of each switch: the state is rebuilt from what is published, the switch
// ends, and no pull fails.
func lostState(ctx context.Context, d *demo) error {
	err := d.tellLostState(ctx)
	return errors.Join(err, d.verdict())
}

func (d *demo) tellLostState(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	for _, restore := range []bool{false, true} {
		for step := range longestPlan {
			// The three switches lead back to Unmanaged: once around for each step.
			for _, c := range changes() {
				steps := append([]string{""}, plans(c.mode)...)
				if err := d.loseAt(ctx, c, steps[min(step, len(steps)-1)], restore); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// longestPlan is how many moments there are in a switch: its start and the end
// of each step.
const longestPlan = 7

// loseAt starts a switch, loses the state at a step, and waits for its end.
func (d *demo) loseAt(ctx context.Context, c change, step string, restore bool) error {
	older, err := d.secret(ctx, "registry-state")
	if err != nil {
		return err
	}
	was, err := d.readStatus(ctx)
	if err != nil {
		return err
	}
	what := "deleted"
	if restore {
		what = "restored from before"
	}
	p := &phase{title: fmt.Sprintf("%d. %s, state %s %s", len(d.phases), c.name, what, stepName(step)), short: true}
	return d.play(ctx, p, func(ctx context.Context, p *phase) error {
		if err := d.apply(ctx, c.file); err != nil {
			return err
		}
		if err := d.waitStep(ctx, was.Hash, step); err != nil {
			return err
		}
		if restore {
			err = d.restore(ctx, older)
		} else {
			_, err = d.cluster.Kubectl(ctx, "", "-n", "d8-system", "delete", "secret", "registry-state")
		}
		if err != nil {
			return err
		}
		d.out.step(p.began, "✗", yellow, "Secret registry-state is %s", what)
		if err := d.waitMode(ctx, p, c.mode, was.Hash); err != nil {
			return err
		}
		s, err := d.readStatus(ctx)
		p.expect("a lost state is rebuilt and the switch ends", s.ready() && s.Mode == c.mode, "mode %s, %s", s.Mode, s.waitingFor())
		return err
	})
}

// restore puts an older content of a Secret back.
func (d *demo) restore(ctx context.Context, older *corev1.Secret) error {
	now, err := d.secret(ctx, older.Name)
	if err != nil {
		return err
	}
	patch := client.MergeFrom(now.DeepCopy())
	now.Data = older.Data
	if err := d.client.Patch(ctx, now, patch); err != nil {
		return fmt.Errorf("restore Secret %s: %w", older.Name, err)
	}
	return nil
}

// waitMode waits until a mode is reached and Ready for settings other than those
// with the given hash.
func (d *demo) waitMode(ctx context.Context, p *phase, mode, oldHash string) error {
	if err := d.waitReady(ctx, p, oldHash); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return d.until(ctx, "mode "+mode, func(ctx context.Context) error {
		s, err := d.readStatus(ctx)
		if err == nil && (s.Mode != mode || !s.ready()) {
			err = fmt.Errorf("mode is %s: %s", s.Mode, s.waitingFor())
		}
		return err
	})
}
