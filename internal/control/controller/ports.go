package controller

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/d8-registry/registry/internal/datapath/inbound"
)

// ports are what the controller listens on: ours, with the limits of all our
// listeners, instead of those of controller-runtime. They serve from the beginning,
// also while the caches fill.
type ports struct {
	metrics, health, profiles string               // addresses; "0" or "": none
	own                       *prometheus.Registry // of this controller: tests run several in a process
	ready                     healthz.Checker
	log                       *slog.Logger
}

// serve listens, and serves in the group until ctx ends.
func (p ports) serve(ctx context.Context, group *errgroup.Group) error {
	connections, err := inbound.NewMetrics(p.own)
	if err != nil {
		return err
	}
	probes := http.NewServeMux()
	for path, check := range map[string]healthz.Checker{"/healthz": healthz.Ping, "/readyz": p.ready} {
		probes.Handle("GET "+path, http.StripPrefix(path, &healthz.Handler{Checks: map[string]healthz.Checker{path[1:]: check}}))
	}
	collected := http.NewServeMux()
	collected.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{metrics.Registry, p.own}, promhttp.HandlerOpts{}))
	group.Go(func() error { return inbound.ServeProfiles(ctx, p.profiles, connections, p.log) })
	for _, port := range []struct {
		name, address string
		handler       http.Handler
	}{{"health", p.health, probes}, {"metrics", p.metrics, collected}} {
		if port.address == "0" || port.address == "" {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", port.address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", port.name, err)
		}
		server := inbound.New(port.handler, inbound.Config{Name: port.name, Limits: inbound.Probes(), Metrics: connections, Log: p.log})
		group.Go(func() error { return server.Serve(ctx, listener, inbound.Drain{}) })
	}
	return nil
}
