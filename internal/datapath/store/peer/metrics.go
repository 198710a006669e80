package peer

import (
	"fmt"
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/d8-registry/registry/internal/datapath/routes"
)

// metrics count what other stores and this one give each other. Labels are bounded.
type metrics struct {
	bytes  prometheus.Counter
	copies *prometheus.CounterVec
}

// What becomes of a copy: the next store was told of it, or none could be; it was wanted here, and
// was here already, came, or did not; there was no room in a queue.
const (
	told    = "told"
	untold  = "untold"
	there   = "there"
	copied  = "copied"
	failed  = "failed"
	dropped = "dropped"
)

func newMetrics() metrics {
	return metrics{
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registry_store_peer_bytes_total", Help: "Bytes of bodies that came from other stores.",
		}),
		copies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_store_copies_total", Help: "Blobs that another store is to have too, by what became of that.",
		}, []string{"outcome"}),
	}
}

// Register adds the metrics.
func (p *Peers) Register(to prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{p.metrics.bytes, p.metrics.copies} {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("register the metrics of other stores: %w", err)
		}
	}
	return nil
}

func (m metrics) copy(outcome string) { m.copies.WithLabelValues(outcome).Inc() }

// counting counts what comes by a transport.
type counting struct {
	routes.Transport
	bytes prometheus.Counter
}

func (c counting) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.Transport.RoundTrip(req)
	if err == nil && resp.Body != http.NoBody {
		resp.Body = counted{resp.Body, c.bytes}
	}
	return resp, err //nolint:wrapcheck // it only counts
}

type counted struct {
	io.ReadCloser
	bytes prometheus.Counter
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.bytes.Add(float64(n))
	return n, err
}
