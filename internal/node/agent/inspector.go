package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/report"
)

// discoverTime is longer than containerd's binary takes to print its
// configuration, on a busy node too: during a change the answer decides whether
// the change stays.
const discoverTime = 20 * time.Second

// inspector remembers what was found out about containerd. To ask takes a process
// of containerd's binary, so that it asks only when something may have changed.
type inspector struct {
	cri      *containerd.Client
	options  containerd.Options
	interval time.Duration
	now      func() time.Time
	files    *watcher
	wake     func()

	known    *known
	outdated atomic.Bool // the next look must ask
}

// known is what was found out about containerd, and when.
type known struct {
	facts containerd.Facts
	at    time.Time
}

func newInspector(cfg Config, cri *containerd.Client, log *slog.Logger, wake func()) *inspector {
	return &inspector{
		cri: cri,
		options: containerd.Options{
			Socket: cfg.Socket, Effective: cfg.HostsDir, ConfigFile: cfg.ConfigFile, Source: cfg.SourceDir,
		},
		interval: cfg.ProofInterval, now: time.Now, files: newWatcher(log), wake: wake,
	}
}

// forget lets the next look ask. Any goroutine may call it.
func (i *inspector) forget() { i.outdated.Store(true) }

// followFiles wakes the agent when a file changes that matters.
func (i *inspector) followFiles(ctx context.Context) {
	i.files.run(ctx, func(config bool) {
		if config {
			i.forget()
		}
		i.wake()
	})
}

// followRestarts wakes the agent when containerd was restarted.
func (i *inspector) followRestarts(ctx context.Context) {
	i.cri.Restarts(ctx, func() { i.forget(); i.wake() })
}

// stale is soon true for a configuration with a problem: a user is repairing it.
func (k *known) stale(now time.Time, interval time.Duration) bool {
	if k == nil {
		return true
	}
	if k.facts.Preflight != containerd.Ready {
		interval = min(interval, later)
	}
	return now.Sub(k.at) >= interval
}

// look reports what containerd is; nil while containerd does not answer.
func (i *inspector) look(ctx context.Context, r *report.Report) *containerd.Facts {
	f, err := i.discover(ctx)
	if err != nil {
		r.Retry = true
		if r.Hold = r.Tolerated("containerd"); !r.Hold {
			r.Disprove() // a containerd that does not run proves nothing
			r.Problemf("containerd does not answer: %v", err)
		}
		return nil
	}
	r.Over("containerd")
	r.Status.Preflight = string(f.Preflight)
	r.Status.Containerd.Version = f.Version
	r.Status.Containerd.EffectiveDirectory = f.Effective
	r.Status.Containerd.ConfigFile = f.ConfigFile
	r.Status.Containerd.SandboxImage = f.SandboxImage
	r.Warn(f.Warnings...)
	if f.Preflight != containerd.Ready {
		r.Problemf("%s", f.Message)
	}
	return f
}

// discover asks containerd, unless what is known is still good.
func (i *inspector) discover(ctx context.Context) (*containerd.Facts, error) {
	if i.outdated.Swap(false) || i.known.stale(i.now(), i.interval) {
		ctx, cancel := context.WithTimeout(ctx, discoverTime)
		defer cancel()
		facts, err := containerd.Discover(ctx, i.cri, i.options)
		if err != nil {
			i.known = nil
			return nil, err
		}
		i.known = &known{facts: facts, at: i.now()}
		i.files.watchConfig(facts.ConfigDirs)
	}
	return &i.known.facts, nil
}
