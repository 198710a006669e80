package store

import (
	"cmp"
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
	"github.com/d8-registry/registry/internal/datapath/store/images"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
)

const (
	// budget is that of a pull to its first header. An agent has 18 s for all whom it asks.
	budget = 12 * time.Second
	// patience is how long a pull waits for its turn, within what the agent has.
	patience = 5 * time.Second
	// stall is how long a registry may be silent in a body. Whoever waits for us waits longer: other
	// stores, and agents (fetch.DefaultStall).
	stall = 6 * time.Second
	// silent is how long another store may be: longer than who waits for us waits, so that it is
	// never we who fetch again what is only slow.
	silent = time.Minute
	// again is after what time an image in use that could not be fetched is tried again, at first.
	again = 5 * time.Second
)

// files are the keys that are read from the folder: those of the in-cluster proxy's Secret,
// pins, and who the stores are.
func files() []string {
	return []string{v1alpha1.KeyProxyLayout, v1alpha1.KeyProxyUsers, front.KeyCertificate, front.KeyKey, keyPins, peer.Key}
}

// Run is the process. It returns when the context has ended and requests in flight are
// through, or when it cannot serve at all: an address, or the folder, is another process's.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	v := &volume{cfg: cfg, log: log}
	v.others = peer.New(peer.Config{Has: v.has, Idle: func(ctx context.Context) bool { return images.AsideOf(ctx) != nil }, Log: log})
	defer v.others.Close()
	mine := &prefetch{}
	v.images = images.New(images.Config{
		Disk: v.disk, Pull: mine.pull, Owns: func(digest string) bool { return !v.others.Second(digest) },
		Again: cmp.Or(cfg.again, again), Log: log,
	})
	p := &pins{replace: v.images.Replace}
	s := &statusPage{version: cfg.Version, volume: v, pins: p, others: v.others}
	f, err := front.New(front.Config{
		Listen: cfg.Listen, Health: cfg.Health, Profiles: cfg.ProfilesAddress,
		Drain: inbound.Drain{Delay: cfg.DrainDelay, Limit: cfg.Drain},
		Log:   log, Listening: cfg.listening, Ready: v.ready, TellTarget: true,
		Around: func(pulls, asked http.Handler) http.Handler {
			mine.pulls = pulls
			return v.others.Around(pulls, asked)
		},
		Proxy: proxy.Config{Budget: cmp.Or(cfg.budget, budget), Patience: patience, Stall: stall, Silent: silent, Hop: cfg.hop, Asked: true, Cache: v.around, Promises: cfg.Promises.Fetch},
		Pages: map[string]http.Handler{"GET /status": s},
	})
	if err != nil {
		return err
	}
	defer f.Close()
	s.front = f
	if v.metrics, err = cache.NewMetrics(f.Metrics); err == nil {
		err = v.others.Register(f.Metrics)
	}
	if err == nil {
		err = register(f.Metrics, v.images)
	}
	if err != nil {
		return err
	}
	folder := front.Folder(cfg.ConfigDir, files(), log)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return v.run(ctx) })
	group.Go(func() error { v.others.Run(ctx); return nil })
	group.Go(func() error { v.images.Run(ctx); return nil })
	group.Go(func() error {
		return f.Serve(ctx, func(ctx context.Context, changed func(front.Content)) {
			folder(ctx, func(c front.Content) {
				if c.Err == nil { // before the images: they go by who fetches what
					v.others.Apply(c.Data[peer.Key], c.Unread[peer.Key], c.Data[front.KeyCertificate], c.Data[front.KeyKey])
				}
				p.apply(c)
				changed(c)
			})
		}, func() {}) // whoever wants to know the status asks
	})
	err = group.Wait()
	return errors.Join(err, v.close()) // after the last pull
}
