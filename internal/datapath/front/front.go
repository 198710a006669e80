package front

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
)

// Config is what differs between the processes.
type Config struct {
	// Listen is for clients, with TLS. Health is for /healthz, /readyz and /metrics,
	// without.
	Listen, Health string
	// Profiles is the address of pprof; "" or "0" means none.
	Profiles string
	// Drain is how it goes on as before when told to stop, ready too: kube-proxy sends clients
	// to a Pod that is ending and ready where there is no other one. Then it is not ready, and
	// requests under way have a time.
	Drain inbound.Drain
	Log   *slog.Logger
	// Proxy is the data path; log, metrics and what clients are told apart by are set here.
	Proxy proxy.Config
	// AskStores is the name under which the stores of a layout are asked first, see
	// routes.Table; empty: they are not asked.
	AskStores string
	// Ready is what has to be there besides what it serves by; nil is nothing. Until then
	// clients are answered 503 at once.
	Ready func() error
	// Around, if set, is asked first: it has others of our kind come to the pulls by the
	// certificate that they show, and everybody else by their credentials.
	Around func(pulls, asked http.Handler) http.Handler
	// TellTarget has nodes told whether what they are to prove is served here, see telling.
	TellTarget bool
	// Pages are more paths on the port for health, by pattern.
	Pages map[string]http.Handler
	// Listening, if set, is called with the addresses listened on: tests listen on port 0.
	Listening func(clients, health string)
}

// Front serves pulls.
type Front struct {
	*Loaded
	Usage *Usage
	// Metrics are those of the process; whoever makes one may add more before Serve.
	Metrics *prometheus.Registry

	cfg             Config
	connections     *inbound.Metrics
	table           *routes.Table
	health          *health
	clients, probes *inbound.Server
}

// New makes one that has nothing to serve by yet.
func New(cfg Config) (*Front, error) {
	f := &Front{Usage: NewUsage(time.Now), cfg: cfg}
	registry, metrics, err := proxy.NewRegistry(func() int64 { return f.Status().Generation })
	if err != nil {
		return nil, err
	}
	connections, err := inbound.NewMetrics(registry)
	if err != nil {
		return nil, err
	}
	f.Metrics, f.connections = registry, connections
	f.table = routes.NewTable(metrics)
	f.table.AskStores(cfg.AskStores)
	f.Loaded = NewLoaded(f.table, cfg.Log)
	cfg.Proxy.Log, cfg.Proxy.Metrics, cfg.Proxy.DefaultHost, cfg.Proxy.Client = cfg.Log, metrics, layout.Fixed().Host, clientOf
	served := proxy.New(f.table, cfg.Proxy)
	if cfg.TellTarget {
		served = f.telling(served)
	}
	pulls := inbound.Known(f.Usage.Counted(f.gated(served)))
	path := f.require(pulls)
	if cfg.Around != nil {
		path = cfg.Around(pulls, path)
	}
	f.clients = inbound.New(path, inbound.Config{
		Name: "pulls", Certificate: f.cert.GetCertificate, Shown: cfg.Around != nil, Limits: inbound.Pulls(), Metrics: connections, Log: cfg.Log,
	})
	f.health = &health{ready: f.Ready}
	f.probes = inbound.New(f.health.handler(registry, cfg.Pages), inbound.Config{
		Name: "metrics", Limits: inbound.Probes(), Metrics: connections, Log: cfg.Log,
	})
	return f, nil
}

// Close is for the end, also where Serve was not called.
func (f *Front) Close() { f.table.Close() }

// Ready is nil when clients can be served.
func (f *Front) Ready() error {
	err := f.Loaded.Ready()
	if f.cfg.Ready != nil {
		err = errors.Join(err, f.cfg.Ready())
	}
	return err
}

// Serve serves until the context has ended and requests under way are through. changed is
// called when the status may have.
func (f *Front) Serve(ctx context.Context, source Source, changed func()) error {
	proofs := newProver(f.Loaded, changed)
	clientsAt, healthAt, err := f.listen(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		source(ctx, func(c Content) {
			f.Apply(c)
			proofs.layoutChanged()
			changed()
		})
		return nil
	})
	group.Go(func() error { proofs.run(ctx); return nil })
	group.Go(func() error { return inbound.ServeProfiles(ctx, f.cfg.Profiles, f.connections, f.cfg.Log) })
	group.Go(func() error { lookAtTarget(ctx, f.Loaded, changed); return nil })
	// Probes go on until the last pull has ended.
	pulled, stopProbes := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return f.probes.Serve(pulled, healthAt, inbound.Drain{}) })
	group.Go(func() error { // as before until then: whoever is the only one is still sent clients
		<-ctx.Done()
		select {
		case <-time.After(f.cfg.Drain.Delay):
		case <-pulled.Done():
		}
		f.health.draining.Store(true)
		return nil
	})
	group.Go(func() error {
		defer stopProbes()
		return f.clients.Serve(ctx, clientsAt, f.cfg.Drain)
	})
	return group.Wait()
}

// gated has pulls refused while something else than a layout is missing: without one the
// data path says it itself.
func (f *Front) gated(next http.Handler) http.Handler {
	if f.cfg.Ready == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f.cfg.Ready(); err != nil {
			unavailable(w, r, err.Error())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// unavailable says nothing about the image, and nothing against the client.
func unavailable(w http.ResponseWriter, r *http.Request, why string) {
	w.Header().Set("Retry-After", strconv.Itoa(int(fetch.Soon.Seconds())))
	oci.WriteError(w, r, http.StatusServiceUnavailable, oci.CodeUnavailable, why)
}

// clientOf is whom a request is from: all nodes are one user, and each has an address.
func clientOf(r *http.Request) string { return hostOf(r.RemoteAddr) }

func (f *Front) listen(ctx context.Context) (clients, health net.Listener, err error) {
	var l net.ListenConfig
	clients, err = l.Listen(ctx, "tcp", f.cfg.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("listen for clients: %w", err)
	}
	health, err = l.Listen(ctx, "tcp", f.cfg.Health)
	if err != nil {
		_ = clients.Close() // the other error is the one that matters
		return nil, nil, fmt.Errorf("listen for health: %w", err)
	}
	if f.cfg.Listening != nil {
		f.cfg.Listening(clients.Addr().String(), health.Addr().String())
	}
	return clients, health, nil
}
