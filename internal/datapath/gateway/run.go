package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/connrotation"

	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
)

// Run is the process. It returns when the context has ended and requests in
// flight are through, or when it cannot serve at all.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	if cfg.Pod == "" || cfg.Namespace == "" {
		return errors.New("the name and namespace of our Pod are not known: set POD_NAME and POD_NAMESPACE")
	}
	client, hangUp, err := newClient(cfg.Kubeconfig)
	if err != nil {
		return err
	}
	defer hangUp()
	return run(ctx, cfg, client, log)
}

// run is the wiring: constructors top to bottom, then the only goroutines of
// the process.
func run(ctx context.Context, cfg Config, client kubernetes.Interface, log *slog.Logger) error {
	var loaded *loaded
	registry, metrics, err := proxy.NewRegistry(func() int64 { return loaded.status().generation })
	if err != nil {
		return err
	}
	table := routes.NewTable(metrics)
	defer table.Close()
	loaded = newLoaded(table, log)
	usage := newUsage(time.Now)
	report := &reporter{
		client: client, namespace: cfg.Namespace, pod: cfg.Pod, every: cfg.ReportEvery, log: log,
		usage: usage, status: loaded.status, changed: make(chan struct{}, 1), now: time.Now,
	}
	proofs := newProver(loaded, report.statusChanged)
	path := proxy.New(table, proxy.Config{Log: log, Metrics: metrics, DefaultHost: layout.Fixed().Host, Client: clientOf})
	connections, err := inbound.NewMetrics(registry)
	if err != nil {
		return err
	}
	clients := inbound.New(regauth.Require(loaded.users.Load, inbound.Known(usage.counted(path))), inbound.Config{
		Name: "pulls", Certificate: loaded.cert.GetCertificate, Limits: inbound.Pulls(), Metrics: connections, Log: log,
	})
	health := &health{ready: loaded.ready}
	probes := inbound.New(health.handler(registry), inbound.Config{Name: "metrics", Limits: inbound.Probes(), Metrics: connections, Log: log})
	clientsAt, healthAt, err := listen(ctx, cfg)
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		watchSecret(ctx, client, cfg.Namespace, cfg.Secret, func(data map[string][]byte) {
			loaded.apply(data)
			proofs.layoutChanged()
			report.statusChanged()
		})
		return nil
	})
	group.Go(func() error { report.run(ctx); return nil })
	group.Go(func() error { proofs.run(ctx); return nil })
	group.Go(func() error { lookAtTarget(ctx, loaded, report.statusChanged); return nil })
	// Probes go on until the last pull has ended.
	pulled, stopProbes := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return probes.Serve(pulled, healthAt, inbound.Drain{}) })
	group.Go(func() error { <-ctx.Done(); health.draining.Store(true); return nil })
	group.Go(func() error {
		defer stopProbes()
		return clients.Serve(ctx, clientsAt, inbound.Drain{Delay: cfg.DrainDelay, Limit: cfg.Drain})
	})
	return group.Wait()
}

// clientOf is whom a request is from: all nodes are one user, and each has an address.
func clientOf(r *http.Request) string { return hostOf(r.RemoteAddr) }

// newClient also returns what closes its connections.
func newClient(kubeconfig string) (kubernetes.Interface, func(), error) {
	configure := rest.InClusterConfig
	if kubeconfig != "" {
		configure = func() (*rest.Config, error) { return clientcmd.BuildConfigFromFlags("", kubeconfig) }
	}
	config, err := configure()
	if err != nil {
		return nil, nil, fmt.Errorf("find the API server: %w", err)
	}
	// Connections are closed by us: one whose watch has just ended still counts as
	// busy and would not be closed as idle.
	dialer := connrotation.NewDialer((&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext)
	config.Dial = dialer.DialContext
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client of the API server: %w", err)
	}
	return client, dialer.CloseAll, nil
}

func listen(ctx context.Context, cfg Config) (clients, health net.Listener, err error) {
	var l net.ListenConfig
	clients, err = l.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("listen for clients: %w", err)
	}
	health, err = l.Listen(ctx, "tcp", cfg.Health)
	if err != nil {
		_ = clients.Close() // the other error is the one that matters
		return nil, nil, fmt.Errorf("listen for health: %w", err)
	}
	if cfg.listening != nil {
		cfg.listening(clients.Addr().String(), health.Addr().String())
	}
	return clients, health, nil
}
