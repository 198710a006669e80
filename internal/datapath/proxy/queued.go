package proxy

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/queue"
)

const (
	// DownloadTakes is the memory of a layer on its way, in bytes, as measured with up to
	// 1,024 of them: the buffers of both connections, those of its digest where there are
	// several upstreams, and what the garbage collector lets grow. See docs/performance.md.
	DownloadTakes = 256 << 10
	// mostDownloads is more than two processors have use for.
	mostDownloads = 1024
	// fewestDownloads are there however little memory there is.
	fewestDownloads = 16
	// mostSmall are what else may be asked for at a time. With the layers it is as many as
	// connections, see inbound.Pulls: they meet the bound of a client, hardly ever their own.
	mostSmall = 1024
	// mostWaiting is more than 100 images wait for that one node pulls at a time.
	mostWaiting = 256
	// patience leaves containerd, which gives up after 30 s, an answer in time: the pull
	// itself has fetch.DefaultBudget until its header.
	patience = 8 * time.Second
)

// Downloads is how many layers may be on their way at a time in a process that may have so
// much memory, in bytes: half of it. The rest is for connections, for manifests and lists,
// which are in memory as a whole, and for what the garbage collector has not found yet.
func Downloads(room int64) int {
	return int(max(fewestDownloads, min(room/2/DownloadTakes, mostDownloads)))
}

// turns are what pulls wait in. Layers have one of their own: they take long, and what is
// small must not wait behind them.
type turns struct {
	layers, small *queue.Queue
	client        func(*http.Request) string
}

func newTurns(cfg Config) *turns {
	limits := queue.Limits{Waiting: mostWaiting, Patience: cfg.Patience, OneClient: cfg.Client == nil}
	t := &turns{client: cfg.Client}
	if t.client == nil {
		t.client = func(*http.Request) string { return "" }
		limits.Waiting = mostDownloads + mostSmall // all connections: there is nobody to keep room for
	}
	limits.Turns = mostSmall
	t.small = queue.New("small", limits, cfg.Metrics)
	limits.Turns = cfg.Downloads
	t.layers = queue.New("layers", limits, cfg.Metrics)
	return t
}

// queued serves a pull when it is its turn. containerd asks again for a 429, also the
// versions that take a 503 for the end.
func (t *turns) queued(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, q, client := fetch.From(r.Context()), t.small, t.client(r)
		if x.Pull.IsLayer(r.Method) {
			q = t.layers
		}
		err := q.Take(r.Context(), client)
		if err == nil {
			defer q.Give(client)
			next.ServeHTTP(w, r)
			return
		}
		x.Record.Err = err
		if errors.Is(r.Context().Err(), context.Canceled) {
			return // nobody is there to read it, see logged
		}
		w.Header().Set("Retry-After", strconv.Itoa(int(fetch.Soon.Seconds())))
		w.Header().Set("Connection", "close") // others may wait for it
		oci.WriteError(w, r, http.StatusTooManyRequests, oci.CodeTooManyRequests, err.Error())
	})
}
