package serve

import (
	"context"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/d8-registry/registry/internal/datapath/inbound"
)

// serveMetrics serves /metrics until the context ends; not if the address is
// empty.
func serveMetrics(ctx context.Context, address string, metrics prometheus.Gatherer, connections *inbound.Metrics, log *slog.Logger) error {
	if address == "" {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		// Pulls must work without metrics.
		log.Error("no metrics", "err", err)
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	server := inbound.New(mux, inbound.Config{Name: "metrics", Limits: inbound.Probes(), Metrics: connections, Log: log})
	return server.Serve(ctx, listener, inbound.Drain{})
}
