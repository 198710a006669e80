package main

import "context"

// baseline is the platform without the module: pulls from registry A, nothing
// else. It shows what the harness costs, and that it fails no pull itself.
func baseline(ctx context.Context, d *demo) error {
	if err := d.play(ctx, &phase{title: "no module"}, func(context.Context, *phase) error { return nil }); err != nil {
		return err
	}
	return d.verdict()
}
