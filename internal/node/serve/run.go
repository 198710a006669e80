package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"

	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/pki"
)

const (
	renewInterval = 12 * time.Hour
	lookInterval  = 10 * time.Second
	// drainFor is how long pulls under way may go on when the agent stops.
	drainFor = 20 * time.Second
)

// Run serves until the context ends.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen address %q: %w", cfg.Listen, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("listen address %q is not on loopback", cfg.Listen)
	}
	folder, err := handoff.Open(cfg.StateDir)
	if err != nil {
		return err
	}
	certificate, err := newCertificate(folder, host)
	if err != nil {
		return err
	}
	token, err := folder.EnsureToken()
	if err != nil {
		return err
	}
	kube, err := dynamic.NewForConfig(cfg.Kube)
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	var table *proxy.Table
	gatherer, metrics, err := proxy.NewRegistry(func() int64 { return table.Generation() })
	if err != nil {
		return err
	}
	connections, err := inbound.NewMetrics(gatherer)
	if err != nil {
		return err
	}
	table = proxy.NewTable(metrics)
	defer table.Close()
	keeper := newKeeper(folder, table, log)
	if cfg.Quiet > 0 {
		keeper.retired.quiet = cfg.Quiet
	}
	group, ctx := errgroup.WithContext(ctx)
	h := &handler{token: token, keeper: keeper, mirrors: newMirrors(folder, table, log), proofs: newProofs(), pulls: proxy.New(table, proxy.Config{Log: log, Metrics: metrics}), stopping: ctx.Done()}
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
	group.Go(func() error { return every(ctx, keeper.retired.quiet/6, func() error { keeper.sweep(); return nil }) })
	group.Go(func() error { return every(ctx, lookInterval, func() error { keeper.lookAtTarget(); return nil }) })
	group.Go(func() error { return every(ctx, renewInterval, certificate.renew) })
	group.Go(func() error {
		source{kube: kube, namespace: cfg.Namespace, secret: cfg.Secret, keeper: keeper, log: log}.run(ctx)
		return nil
	})
	return group.Wait()
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

// certificate is that of the agent, which containerd checks. The CA is on disk and
// stays as long as it is valid, so that containerd's files need not change; the
// leaf is only in memory.
type certificate struct {
	host     string
	ca, leaf pki.KeyPair
	reloader pki.Reloader
}

func newCertificate(folder handoff.StateDir, host string) (*certificate, error) {
	ca, err := folder.CAKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	names := []string{host, "localhost"} // a DNS name, so that it can sign for no other
	ca, fresh, err := pki.EnsureCA(now, ca, names)
	if errors.Is(err, pki.ErrExpired) || errors.Is(err, pki.ErrDamaged) || err == nil && len(ca.Refused(names)) > 0 {
		// It is of no use here; the last case is another --listen than before. Only this
		// node's containerd trusts it, and the other half writes the new one before the
		// next proof.
		ca, err = pki.NewCA(now, names)
		fresh = true
	}
	if err != nil {
		return nil, fmt.Errorf("the agent's CA: %w", err)
	}
	if fresh {
		if err := folder.SaveCA(ca); err != nil {
			return nil, err
		}
	}
	c := &certificate{host: host, ca: ca}
	return c, c.renew()
}

func (c *certificate) renew() error {
	leaf, fresh, err := pki.EnsureLeaf(time.Now(), c.ca, c.leaf, []string{c.host})
	if err != nil {
		return fmt.Errorf("the agent's certificate: %w", err)
	}
	if !fresh {
		return nil
	}
	c.leaf = leaf
	return c.reloader.Set([]byte(leaf.Cert), []byte(leaf.Key))
}
