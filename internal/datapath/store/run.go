package store

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front"
	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/store/cache"
)

const (
	// budget is that of a pull to its first header. An agent has 18 s for all whom it asks.
	budget = 12 * time.Second
	// patience is how long a pull waits for its turn, within what the agent has.
	patience = 5 * time.Second
)

// files are the keys that are read from the folder: those of the in-cluster proxy's Secret,
// and pins.
func files() []string {
	return []string{v1alpha1.KeyProxyLayout, v1alpha1.KeyProxyUsers, front.KeyCertificate, front.KeyKey, keyPins}
}

// Run is the process. It returns when the context has ended and requests in flight are
// through, or when it cannot serve at all: an address, or the folder, is another process's.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	v := &volume{cfg: cfg, log: log}
	p := &pins{pin: v.pin}
	s := &statusPage{volume: v, pins: p}
	f, err := front.New(front.Config{
		Listen: cfg.Listen, Health: cfg.Health, Drain: inbound.Drain{Delay: cfg.DrainDelay, Limit: cfg.Drain},
		Log: log, Listening: cfg.listening, Ready: v.ready,
		Proxy: proxy.Config{Budget: budget, Patience: patience, Cache: v.around},
		Pages: map[string]http.Handler{"GET /status": s},
	})
	if err != nil {
		return err
	}
	defer f.Close()
	s.front = f
	if v.metrics, err = cache.NewMetrics(f.Metrics); err != nil {
		return err
	}
	folder := front.Folder(cfg.ConfigDir, files(), log)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return v.run(ctx) })
	group.Go(func() error {
		return f.Serve(ctx, func(ctx context.Context, changed func(front.Content)) {
			folder(ctx, func(c front.Content) { p.apply(c); changed(c) })
		}, func() {}) // whoever wants to know the status asks
	})
	err = group.Wait()
	return errors.Join(err, v.close()) // after the last pull
}
