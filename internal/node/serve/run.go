package serve

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"

	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/watchdog"
)

const (
	lookInterval = 10 * time.Second
	// drainFor is how long pulls under way may go on when the agent stops.
	drainFor = 20 * time.Second
)

// Run serves until the context ends.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	host, err := loopback(cfg.Listen)
	if err != nil {
		return err
	}
	held, err := handoff.Use(ctx, cfg.StateDir, 0)
	if err != nil {
		return err
	}
	defer held.Close()
	folder := held.StateDir
	certificate, err := newCertificate(folder, host, time.Now)
	if err != nil {
		return err
	}
	known, err := newTokens(folder, time.Now)
	if err != nil {
		return err
	}
	kube, err := dynamic.NewForConfig(cfg.Kube)
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	var table *routes.Table
	gatherer, metrics, err := proxy.NewRegistry(func() int64 { return table.Generation() })
	if err != nil {
		return err
	}
	connections, err := inbound.NewMetrics(gatherer)
	if err != nil {
		return err
	}
	table = newTable(cfg, metrics)
	defer table.Close()
	keeper := newKeeper(folder, table, log)
	keeper.retired.quiet = cmp.Or(cfg.Quiet, keeper.retired.quiet)
	dog := watchdog.New(nil)
	group, ctx := errgroup.WithContext(ctx)
	h := &handler{tokens: known, keeper: keeper, mirrors: newMirrors(folder, table, log), proofs: newProofs(), alive: dog.Err, pulls: proxy.New(table, proxy.Config{Log: log, Metrics: metrics, Promises: cfg.Promises}), stopping: ctx.Done()}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for containerd: %w", err)
	}
	server := inbound.New(h.routes(), inbound.Config{
		Name: "pulls", Certificate: certificate.reloader.GetCertificate, Limits: inbound.Loopback(), Metrics: connections, Log: log,
	})
	log.Info("agent serves", "address", listener.Addr().String())

	// No delay before the end: only this node's containerd comes here; it has a fallback.
	group.Go(func() error { return server.Serve(ctx, listener, inbound.Drain{Limit: drainFor}) })
	group.Go(func() error { return serveMetrics(ctx, cfg.MetricsListen, gatherer, connections, log) })
	group.Go(func() error { return inbound.ServeProfiles(ctx, cfg.ProfilesAddress, connections, log) })
	upkeep(ctx, group, dog, keeper)
	group.Go(func() error {
		return every(ctx, cmp.Or(cfg.Renew, time.Minute), renewed(log, certificate.renew, known.renew))
	})
	group.Go(func() error {
		source{kube: kube, namespace: cfg.Namespace, secret: cfg.Secret, keeper: keeper, watchdog: dog, log: log}.run(ctx)
		return nil
	})
	return group.Wait()
}

// upkeep is what the keeper does from time to time.
func upkeep(ctx context.Context, group *errgroup.Group, dog *watchdog.Watchdog, k *keeper) {
	group.Go(func() error {
		return every(ctx, k.retired.quiet/6, func() error { dog.Do("the look at names that are gone", k.sweep); return nil })
	})
	group.Go(func() error {
		return every(ctx, lookInterval, func() error { dog.Do("the look at the target", k.lookAtTarget); return nil })
	})
}

// newTable has stores asked first, each node in an order of its own.
func newTable(cfg Config, metrics *proxy.Metrics) *routes.Table {
	table := routes.NewTable(metrics)
	machine, _ := os.Hostname() // without a name it begins with the same store as others that have none
	table.AskStores(cmp.Or(cfg.Name, machine, "node"))
	return table
}

// loopback is the host of the address to listen on.
func loopback(address string) (host string, err error) {
	if host, _, err = net.SplitHostPort(address); err != nil {
		return "", fmt.Errorf("listen address %q: %w", address, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("listen address %q is not on loopback", address)
	}
	return host, nil
}

func every(ctx context.Context, interval time.Duration, do func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := do(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
