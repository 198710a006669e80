package fetch

import (
	"cmp"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/d8-registry/registry/internal/datapath/answer"
	"github.com/d8-registry/registry/internal/datapath/judge"
)

// The header comes within 20 s: some clients give up after 30 s. A body that is
// silent for 10 s counts as stalled. For as long an upstream that did not answer in time
// is asked last. A store has to be alive within 2 s, and then may wait for a registry in a body, but
// for less than the minute after which containerd gives up a pull.
const (
	DefaultBudget = 18 * time.Second
	DefaultStall  = 10 * time.Second
	DefaultProbe  = 10 * time.Second
	DefaultHop    = 2 * time.Second
	DefaultSilent = 30 * time.Second
)

// Metrics count the requests to upstreams.
type Metrics interface {
	// Attempt is one request, and what became of it.
	Attempt(host string, o judge.Outcome)
	// Limited is until when an upstream asked us to wait; the zero time when it serves.
	Limited(host string, until time.Time)
	// Spared is one request that was not sent because of that.
	Spared(host string)
	// Resumed is one body that broke and is continued, or tried to be.
	Resumed()
}

// Config is what a fetch needs beside its exchange. Times that are 0 have their default.
type Config struct {
	// Budget is how long a pull may take to its first header, over tokens, redirects and
	// all upstreams together.
	Budget time.Duration
	// Stall is how long a body may be silent before it is continued from another upstream.
	Stall time.Duration
	// Hop is how long a store has to show that it is alive: by a header, or by answering at all
	// while it waits for one itself.
	Hop time.Duration
	// Silent is how long a store that is alive may be silent in a body: it waits itself.
	Silent time.Duration
	// Probe is how long an upstream that did not answer in time is asked last.
	Probe   time.Duration
	Metrics Metrics
	// Buffers are what is kept in memory of bodies that are hashed.
	Buffers  httputil.BufferPool
	Promises Promises
}

// Promises are kept by the zero value, which is what ships. They are there to be seen broken: what the
// first store says is the end, and nobody else is asked; a body ends where it breaks.
type Promises struct{ firstStoreOnly, noResume bool }

// New answers requests that are the pull of an Exchange, see With. resume is around
// failover: a body that breaks goes on from the next upstream.
func New(cfg Config) http.RoundTripper {
	return resume{pool: cfg.Buffers, next: failover{
		budget:  cmp.Or(cfg.Budget, DefaultBudget),
		stall:   cmp.Or(cfg.Stall, DefaultStall),
		probe:   cmp.Or(cfg.Probe, DefaultProbe),
		hop:     cmp.Or(cfg.Hop, DefaultHop),
		silent:  cmp.Or(cfg.Silent, DefaultSilent),
		metrics: cfg.Metrics,
		checker: &answer.Checker{}, promises: cfg.Promises,
	}}
}
