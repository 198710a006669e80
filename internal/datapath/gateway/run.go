package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/connrotation"

	"github.com/d8-registry/registry/internal/datapath/front"
	"github.com/d8-registry/registry/internal/datapath/inbound"
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

// run is the wiring: what serves, then who reports on it.
func run(ctx context.Context, cfg Config, client kubernetes.Interface, log *slog.Logger) error {
	f, err := front.New(front.Config{
		Listen: cfg.Listen, Health: cfg.Health, Profiles: cfg.ProfilesAddress, Drain: inbound.Drain{Delay: cfg.DrainDelay, Limit: cfg.Drain},
		Log: log, Listening: cfg.listening, AskStores: cfg.Pod,
	})
	if err != nil {
		return err
	}
	defer f.Close()
	report := &reporter{
		client: client, namespace: cfg.Namespace, pod: cfg.Pod, every: cfg.ReportEvery, log: log,
		usage: f.Usage, status: f.Status, changed: make(chan struct{}, 1), now: time.Now,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { report.run(ctx); return nil })
	group.Go(func() error {
		return f.Serve(ctx, func(ctx context.Context, changed func(front.Content)) {
			watchSecret(ctx, client, cfg.Namespace, cfg.Secret, func(data map[string][]byte) { changed(front.Content{Data: data}) })
		}, report.statusChanged)
	})
	return group.Wait()
}

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
