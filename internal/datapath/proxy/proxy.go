package proxy

import (
	"cmp"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// Config is what differs between the programs that use the data path. The zero
// value works.
type Config struct {
	// Log gets the access log and warnings; nil means none.
	Log *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// DefaultHost is the host of the name for requests without ?ns= whose Host
	// header is no routed one: in-cluster clients may spell the Service's name
	// in several ways. Empty means that such requests are answered 404.
	DefaultHost string
	// Client names whom a request is from: all wait for their turn in one line of their own.
	// nil means that there is one client.
	Client func(*http.Request) string
	// Downloads is how many layers may be on their way at a time. 0 means as many as the
	// memory limit of the process holds, see Downloads.
	Downloads int
	// Patience is how long a request waits for its turn. 0 means 8 s.
	Patience time.Duration
	// Budget is how long a request may take to its first header, over tokens,
	// redirects and all upstreams together. 0 means fetch.DefaultBudget.
	Budget time.Duration
	// Stall is how long a body may be silent before it is continued from
	// another upstream. 0 means fetch.DefaultStall.
	Stall time.Duration
	// Probe is how long an upstream that did not answer in time is asked last.
	// 0 means fetch.DefaultProbe.
	Probe time.Duration
	// Hop is how long a store that is asked first may take to its header. 0 means
	// fetch.DefaultHop.
	Hop time.Duration
	// Silent is how long a store that is alive may be silent in a body. 0 means
	// fetch.DefaultSilent.
	Silent time.Duration
	// Asked has each 404 say which upstreams have it not, see oci.HeaderAsked.
	Asked bool
	// Cache puts what it knows in front of the upstreams; nil means nothing.
	Cache func(upstreams http.RoundTripper) http.RoundTripper
	// Promises are those of fetches; the zero value keeps them.
	Promises fetch.Promises
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = newMetrics()
	}
	c.Downloads = cmp.Or(c.Downloads, Downloads(debug.SetMemoryLimit(-1))) // which only asks
	c.Patience = cmp.Or(c.Patience, patience)
	return c
}

// New is the data path. Read it top to bottom: that is the order a request
// meets each part. What is below fetch.New belongs to one pull, and what is below
// routes.Target to one upstream.
func New(table *routes.Table, cfg Config) http.Handler {
	cfg = cfg.withDefaults()
	pool := &buffers{}
	upstreams := fetch.New(fetch.Config{
		Budget: cfg.Budget, Stall: cfg.Stall, Probe: cfg.Probe, Hop: cfg.Hop, Silent: cfg.Silent, Metrics: cfg.Metrics, Buffers: pool,
		Promises: cfg.Promises,
	})
	if cfg.Cache != nil {
		upstreams = cfg.Cache(upstreams)
	}
	relayed := relay{pool: pool, upstreams: upstreams, asked: cfg.Asked}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", pong) // about us; must not depend on any upstream
	mux.Handle("GET /v2/", routed(table, cfg.DefaultHost, newTurns(cfg).queued(relayed)))
	mux.HandleFunc("/v2/", notAllowed)
	mux.HandleFunc("/", notFound)
	return logged(cfg.Log, cfg.Metrics, mux)
}

// routed finds the upstreams for a pull and notes them in its exchange for what comes
// below.
func routed(table *routes.Table, defaultHost string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := fetch.From(r.Context())
		pull, err := oci.Parse(r)
		if err != nil {
			oci.Answer(w, r, err)
			return
		}
		x.Pull = pull
		route, ok := table.Lookup(pull.Host, pull.Repository)
		if !ok && !pull.Namespaced && defaultHost != "" {
			pull.Host = defaultHost
			x.Pull = pull
			route, ok = table.Lookup(pull.Host, pull.Repository)
		}
		if !ok && table.Generation() == 0 {
			// Whether there is a route is not known yet: 503, which says nothing
			// about the image.
			w.Header().Set("Retry-After", strconv.Itoa(int(fetch.Soon.Seconds())))
			oci.WriteError(w, r, http.StatusServiceUnavailable, oci.CodeUnavailable, "no layout yet")
			return
		}
		if !ok {
			// 404, so that containerd goes on to the name's own registry with
			// the pod's own credentials.
			oci.WriteError(w, r, http.StatusNotFound, oci.CodeNameUnknown, "no route for "+pull.Host+"/"+pull.Repository)
			return
		}
		x.Route = route
		next.ServeHTTP(w, r)
	})
}

func pong(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}")) // the client may be gone
}

func notAllowed(w http.ResponseWriter, r *http.Request) {
	oci.WriteError(w, r, http.StatusMethodNotAllowed, oci.CodeUnsupported, "this registry only serves pulls")
}

func notFound(w http.ResponseWriter, r *http.Request) {
	oci.WriteError(w, r, http.StatusNotFound, oci.CodeUnsupported, "only /v2/ is served here")
}
