package proxy

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

// Metrics count what the data path does. Labels are bounded: kinds, status
// codes and the hosts of upstreams, never image names.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	inFlight prometheus.Gauge
	attempts *prometheus.CounterVec
	resumes  prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := newMetrics()
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.bytes, m.inFlight, m.attempts, m.resumes} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the data path's metrics: %w", err)
		}
	}
	return m, nil
}

// NewRegistry is a registry of metrics with those of the process and of the data
// path.
func NewRegistry(generation func() int64) (*prometheus.Registry, *Metrics, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "registry_proxy_generation", Help: "Generation of the layout that is served; 0 before the first.",
		}, func() float64 { return float64(generation()) }),
	} {
		if err := registry.Register(c); err != nil {
			return nil, nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	metrics, err := NewMetrics(registry)
	return registry, metrics, err
}

func newMetrics() *Metrics {
	return &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_proxy_requests_total", Help: "Requests of clients, by kind and answered status.",
		}, []string{"kind", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "registry_proxy_header_seconds", Help: "Seconds until the header of the answer was sent.",
			Buckets: []float64{.005, .025, .1, .5, 1, 2.5, 5, 10, 20},
		}, []string{"kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_proxy_response_bytes_total", Help: "Bytes of bodies sent to clients.",
		}, []string{"kind"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "registry_proxy_requests_in_flight", Help: "Requests being served.",
		}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_proxy_upstream_attempts_total", Help: "Requests to upstreams, by what became of them.",
		}, []string{"upstream", "outcome"}),
		resumes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registry_proxy_resumes_total", Help: "Bodies that broke and were continued, or tried to be.",
		}),
	}
}

func (m *Metrics) request(rec *record) {
	kind := string(rec.exchange.Pull.Kind)
	if kind == "" {
		kind = "other"
	}
	m.requests.WithLabelValues(kind, strconv.Itoa(rec.status)).Inc()
	m.seconds.WithLabelValues(kind).Observe(rec.header.Seconds())
	m.bytes.WithLabelValues(kind).Add(float64(rec.bytes))
}

// Attempt counts a request to an upstream.
func (m *Metrics) Attempt(host string, o judge.Outcome) {
	m.attempts.WithLabelValues(host, string(o)).Inc()
}

// Resumed counts a body that broke.
func (m *Metrics) Resumed() { m.resumes.Inc() }

// Forget drops the series of an upstream that is not routed to any more.
func (m *Metrics) Forget(host string) {
	m.attempts.DeletePartialMatch(prometheus.Labels{"upstream": host})
}
