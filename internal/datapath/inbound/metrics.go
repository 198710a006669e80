package inbound

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count connections. All listeners of a process share them; the label
// listener tells them apart.
type Metrics struct {
	open   *prometheus.GaugeVec
	closed *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := newMetrics()
	for _, c := range []prometheus.Collector{m.open, m.closed} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of connections: %w", err)
		}
	}
	return m, nil
}

func newMetrics() *Metrics {
	return &Metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registry_connections", Help: "Connections of clients, by whether they have shown credentials.",
		}, []string{"listener", "known"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_connections_closed_total", Help: "Connections of clients that we closed, by the limit that they met.",
		}, []string{"listener", "reason"}),
	}
}

// reason is why we closed a connection.
type reason string

const (
	crowded    reason = "crowded"   // the oldest anonymous one, for another
	perAddress reason = "address"   // too many anonymous ones of one address
	perClient  reason = "client"    // too many of one address that have shown credentials
	anonymous  reason = "anonymous" // no handshake, request or credentials in time
	unread     reason = "unread"    // the client takes nothing
	withBody   reason = "body"      // a request with a body
)
