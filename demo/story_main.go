package main

import (
	"context"
)

// mainStory is the main job: to Direct, other credentials, another registry, the
// death of the first one, and back.
func mainStory(ctx context.Context, d *demo) error {
	err := d.tellMain(ctx)
	if ctx.Err() != nil {
		return err
	}
	if verdict := d.verdict(); err == nil {
		err = verdict
	}
	return err
}

func (d *demo) tellMain(ctx context.Context) error {
	if err := d.play(ctx, &phase{title: "Unmanaged on A"}, func(ctx context.Context, p *phase) error {
		return d.waitReady(ctx, p, "")
	}); err != nil {
		return err
	}
	for _, s := range []struct {
		title, file string
		direct      bool
		after       func() error
	}{
		{title: "Direct on A", file: "direct-a.yaml"},
		{title: "new credentials on A", file: "direct-a-rotated.yaml", direct: true, after: d.revokeOld},
		{title: "registry B", file: "direct-b.yaml", direct: true},
	} {
		if err := d.play(ctx, &phase{title: s.title, direct: s.direct}, func(ctx context.Context, p *phase) error {
			if err := d.prepare(s.file); err != nil {
				return err
			}
			if err := d.switchTo(ctx, p, s.file); err != nil || s.after == nil {
				return err
			}
			return s.after()
		}); err != nil {
			return err
		}
	}
	if err := d.play(ctx, &phase{title: "A switched off", direct: true}, func(_ context.Context, p *phase) error {
		d.cluster.Registries[0].Stop()
		d.out.step(p.began, "✗", yellow, "%s is switched off", registryA)
		return nil
	}); err != nil {
		return err
	}
	return d.play(ctx, &phase{title: "Unmanaged on B"}, func(ctx context.Context, p *phase) error {
		return d.switchTo(ctx, p, "unmanaged.yaml")
	})
}

// switchTo applies settings and waits until they are reached.
func (d *demo) switchTo(ctx context.Context, p *phase, file string) error {
	old, err := d.readStatus(ctx)
	if err != nil {
		return err
	}
	if err := d.apply(ctx, file); err != nil {
		return err
	}
	d.out.step(p.began, "→", bold, "kubectl apply -f demo/%s", file)
	return d.waitReady(ctx, p, old.Hash)
}

// prepare makes a registry ready for new settings: new credentials have to exist
// before anybody may use them.
func (d *demo) prepare(file string) error {
	if file != "direct-a-rotated.yaml" {
		return nil
	}
	a := d.cluster.Registries[0]
	users := map[string]string{"rotated": "another-password"}
	for name, password := range a.Users {
		users[name] = password
	}
	return a.SetUsers(users)
}

// revokeOld leaves registry A with the new user only.
func (d *demo) revokeOld() error {
	d.out.line("           the old user and the licence key are revoked on %s", registryA)
	return d.cluster.Registries[0].SetUsers(map[string]string{"rotated": "another-password"})
}
