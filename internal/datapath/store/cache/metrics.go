package cache

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/fill"
	"github.com/d8-registry/registry/internal/datapath/store/space"
)

// Metrics count what a cache does. Labels are bounded.
type Metrics struct {
	answers  *prometheus.CounterVec
	passed   *prometheus.CounterVec
	stale    *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	upstream prometheus.Counter
	fills    *prometheus.CounterVec
	corrupt  prometheus.Counter

	room  atomic.Pointer[space.Keeper]
	guard atomic.Pointer[space.Guard]
	gauge []prometheus.Collector
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := newMetrics()
	for _, c := range append([]prometheus.Collector{m.answers, m.passed, m.stale, m.bytes, m.upstream, m.fills, m.corrupt}, m.gauge...) {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the store's metrics: %w", err)
		}
	}
	return m, nil
}

func newMetrics() *Metrics {
	m := &Metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_store_answers_total", Help: "Pulls that the store answered or asked the upstreams for, by what it found.",
		}, []string{"kind", "found"}),
		passed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_store_bypass_total", Help: "Pulls, or the rest of one, that went past the store, by why.",
		}, []string{"reason"}),
		stale: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_store_stale_total", Help: "Old answers that stood for those of a registry, by why it gave none.",
		}, []string{"reason"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_store_served_bytes_total", Help: "Bytes of blobs that were served, by where they came from.",
		}, []string{"from"}),
		upstream: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registry_store_upstream_bytes_total", Help: "Bytes of blobs that were fetched from upstreams to be stored.",
		}),
		fills: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_store_fills_total", Help: "Blobs that came, by what became of them.",
		}, []string{"outcome"}),
		corrupt: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registry_store_corrupt_total", Help: "Blobs of wrong bytes: from an upstream, or from the disk.",
		}),
	}
	m.gauges()
	return m
}

// gauges are read from the space of the store when somebody asks.
func (m *Metrics) gauges() {
	usage := func(of func(space.Usage) float64) func() float64 {
		return func() float64 {
			room := m.room.Load()
			if room == nil {
				return 0
			}
			return of(room.Usage())
		}
	}
	m.gauge = []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "registry_store_kept_bytes", Help: "Bytes on disk: whole blobs, and what was left of others.",
		}, usage(func(u space.Usage) float64 { return float64(u.Kept) })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "registry_store_coming_bytes", Help: "Bytes that are reserved for blobs on their way.",
		}, usage(func(u space.Usage) float64 { return float64(u.Coming) })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "registry_store_pinned_bytes", Help: "Bytes of what the cluster uses, which is never evicted.",
		}, usage(func(u space.Usage) float64 { return float64(u.Pinned) })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "registry_store_quota_bytes", Help: "Most bytes that are kept.",
		}, usage(func(u space.Usage) float64 { return float64(u.Quota) })),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "registry_store_evicted_bytes_total", Help: "Bytes that were evicted.",
		}, usage(func(u space.Usage) float64 { return float64(u.Evicted.Bytes) })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "registry_store_pace_bytes", Help: "Bytes a second that may be written beside an etcd; 0 without a limit.",
		}, func() float64 { pace, _ := m.guard.Load().Limit(); return pace }),
	}
}

func (m *Metrics) watch(room *space.Keeper, guard *space.Guard) {
	m.room.Store(room)
	m.guard.Store(guard)
}

func (m *Metrics) answered(kind oci.Kind, found string) {
	m.answers.WithLabelValues(string(kind), found).Inc()
}

// Past is one pull that goes past the store, or the rest of one.
func (m *Metrics) Past(reason string) { m.passed.WithLabelValues(reason).Inc() }

func (m *Metrics) served(from string, n int) { m.bytes.WithLabelValues(from).Add(float64(n)) }

// Opened implements fill.Metrics; answered counts the same for the clients.
func (m *Metrics) Opened(fill.How) {}

// Fetched implements fill.Metrics.
func (m *Metrics) Fetched(n int) { m.upstream.Add(float64(n)) }

// Ended implements fill.Metrics.
func (m *Metrics) Ended(err error) {
	outcome := "failed"
	for _, known := range []struct {
		err  error
		word string
	}{
		{nil, "stored"}, {blob.ErrDigest, "digest"}, {fill.ErrNoStore, "full"}, {fill.ErrNoSize, "size"},
		{fill.ErrSize, "size"}, {fill.ErrAlone, "alone"}, {fill.ErrClosed, "closed"},
	} {
		if errors.Is(err, known.err) {
			outcome = known.word
			break
		}
	}
	m.fills.WithLabelValues(outcome).Inc()
}
