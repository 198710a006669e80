package agent

import (
	"context"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/d8-registry/registry/internal/node/handoff"
)

// Run works until the context ends.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	state, err := handoff.Use(ctx, cfg.StateDir, cfg.ServeUser)
	if err != nil {
		return err
	}
	defer state.Close()
	loop := newLoop(cfg.ProofInterval)
	a, err := newAgent(cfg, state, log, loop.wakeUp)
	if err != nil {
		return err
	}
	defer func() { _ = a.containerd.cri.Close() }()
	group, ctx := errgroup.WithContext(ctx)
	if cfg.AliveFile != "" {
		// Also while another agent is waited for: to be started anew would not help.
		group.Go(func() error { a.watchdog.Stamp(ctx, cfg.AliveFile, log); return nil })
	}
	group.Go(func() error { return a.runAlone(ctx, loop) })
	return group.Wait()
}

// runAlone works when no other agent of this node does any more.
func (a *Agent) runAlone(ctx context.Context, loop *loop) error {
	// The agent of a Pod that was deleted by force may still be at work.
	lock, err := a.serving.state.Lock(ctx)
	if err != nil && ctx.Err() != nil {
		return nil // it was told to end
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	defer func() { a.cleanup.removeDir(ctx, a.report.Latest()) }()

	group, ctx := errgroup.WithContext(ctx)
	follow := func(what func(context.Context)) {
		group.Go(func() error { what(ctx); return nil })
	}
	follow(a.serving.follow)
	follow(func(ctx context.Context) { a.report.Follow(ctx, loop.wakeUp) })
	follow(a.heartbeat.Run)
	follow(a.containerd.followFiles)
	follow(a.containerd.followRestarts)
	follow(a.store.Run)
	a.scripts.start(ctx, group)
	group.Go(func() error {
		return loop.run(ctx, a.pass, func() error { return a.cleanup.recalled(a.report.Latest()) })
	})
	return group.Wait()
}
