package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/answer"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// The header comes within 20 s: some clients give up after 30 s. A body that is
// silent for 10 s counts as stalled.
const (
	DefaultBudget = 18 * time.Second
	DefaultStall  = 10 * time.Second
	// DefaultProbe is how long an upstream that did not answer in time is asked last.
	DefaultProbe = 10 * time.Second
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
	// Budget is how long a request may take to its first header, over tokens,
	// redirects and all upstreams together. 0 means DefaultBudget.
	Budget time.Duration
	// Stall is how long a body may be silent before it is continued from
	// another upstream. 0 means DefaultStall.
	Stall time.Duration
	// Probe is how long an upstream that did not answer in time is asked last.
	// 0 means DefaultProbe.
	Probe time.Duration
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = newMetrics()
	}
	c.Budget, c.Stall, c.Probe = cmp.Or(c.Budget, DefaultBudget), cmp.Or(c.Stall, DefaultStall), cmp.Or(c.Probe, DefaultProbe)
	return c
}

// New is the data path. Read it top to bottom: that is the order a request
// meets each part. What is below failover belongs to one upstream, see
// NewTransport.
func New(table *routes.Table, cfg Config) http.Handler {
	cfg = cfg.withDefaults()
	pool := &buffers{}
	forward := &httputil.ReverseProxy{
		Rewrite: keepOnlyPullHeaders,
		// resume is around failover: a body that breaks goes on from the next
		// upstream.
		Transport:      resume{next: failover{budget: cfg.Budget, stall: cfg.Stall, probe: cfg.Probe, metrics: cfg.Metrics, checker: &answer.Checker{}}, pool: pool},
		ModifyResponse: keepOnlyPullResponse,
		FlushInterval:  -1, // layers are streamed, never collected
		BufferPool:     pool,
		ErrorHandler:   noUpstream,
		ErrorLog:       slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", pong) // about us; must not depend on any upstream
	mux.Handle("GET /v2/", routed(table, cfg.DefaultHost, forward))
	mux.HandleFunc("/v2/", notAllowed)
	mux.HandleFunc("/", notFound)
	return logged(cfg.Log, cfg.Metrics, mux)
}

// routed finds the upstreams for a pull and notes them in its exchange for what comes
// below.
func routed(table *routes.Table, defaultHost string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := exchangeFrom(r.Context())
		pull, err := oci.Parse(r)
		if err != nil {
			oci.Answer(w, r, err)
			return
		}
		x.record.pull = pull
		route, ok := table.Lookup(pull.Host, pull.Repository)
		if !ok && !pull.Namespaced && defaultHost != "" {
			pull.Host = defaultHost
			x.record.pull = pull
			route, ok = table.Lookup(pull.Host, pull.Repository)
		}
		if !ok && table.Generation() == 0 {
			// Whether there is a route is not known yet: 503, which says nothing
			// about the image.
			w.Header().Set("Retry-After", strconv.Itoa(int(soon.Seconds())))
			oci.WriteError(w, r, http.StatusServiceUnavailable, oci.CodeUnavailable, "no layout yet")
			return
		}
		if !ok {
			// 404, so that containerd goes on to the name's own registry with
			// the pod's own credentials.
			oci.WriteError(w, r, http.StatusNotFound, oci.CodeNameUnknown, "no route for "+pull.Host+"/"+pull.Repository)
			return
		}
		x.pull, x.route = pull, route
		next.ServeHTTP(w, r)
	})
}

// exchange is one pull on its way: what is wanted and who may serve it.
type exchange struct {
	pull   oci.Pull
	route  routes.Route
	record *record
	// served is the upstream whose answer is being read; broken is the one whose
	// answer ended too early, which is tried last.
	served, broken *routes.Target
	proved         bool // the answer has the right digest
}

// others reports whether more than one upstream may be asked for the pull.
func (x *exchange) others() bool {
	may := 0
	for _, t := range x.route.Targets {
		if t.Allows(x.pull) {
			may++
		}
	}
	return may > 1
}

type exchangeKey struct{}

func exchangeFrom(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
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

// buffers are reused between copies of bodies. 32 KiB: TLS gives 16 at a time.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
