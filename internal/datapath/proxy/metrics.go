package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/queue"
)

// Metrics count what the data path does. Labels are bounded: kinds, status
// codes and the hosts of upstreams, never image names.
type Metrics struct {
	requests  *prometheus.CounterVec
	firstByte *prometheus.HistogramVec
	bytes     *prometheus.CounterVec
	inFlight  prometheus.Gauge
	attempts  *prometheus.CounterVec
	tokens    *prometheus.CounterVec
	resumes   prometheus.Counter
	limited   *prometheus.GaugeVec
	spared    *prometheus.CounterVec
	waiting   *prometheus.GaugeVec
	waits     *prometheus.HistogramVec
	refused   *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := newMetrics()
	for _, c := range []prometheus.Collector{m.requests, m.firstByte, m.bytes, m.inFlight, m.attempts, m.tokens, m.resumes, m.limited, m.spared, m.waiting, m.waits, m.refused} {
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
		firstByte: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "registry_proxy_first_byte_seconds", Help: "Seconds until the first byte of the body was sent, or the header of an answer without one.",
			Buckets: []float64{.005, .025, .1, .5, 1, 2.5, 5, 10, 20},
		}, []string{"kind", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_proxy_response_bytes_total", Help: "Bytes of bodies sent to clients.",
		}, []string{"kind"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "registry_proxy_requests_in_flight", Help: "Requests being served.",
		}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_proxy_upstream_attempts_total", Help: "Requests to upstreams, by what became of them.",
		}, []string{"upstream", "outcome"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_proxy_tokens_total", Help: "Tokens asked for, by what became of it.",
		}, []string{"upstream", "outcome"}),
		resumes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registry_proxy_resumes_total", Help: "Bodies that broke and were continued, or tried to be.",
		}),
		limited: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registry_proxy_upstream_limited_until_timestamp_seconds", Help: "Until when an upstream asked us to wait; 0 when it serves again.",
		}, []string{"upstream"}),
		spared: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_proxy_upstream_spared_total", Help: "Requests that an upstream that asked us to wait was not sent.",
		}, []string{"upstream"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registry_proxy_queue_length", Help: "Requests that wait for their turn.",
		}, []string{"queue"}),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "registry_proxy_queue_seconds", Help: "Seconds that those waited that had to wait for their turn, whether it came or not.",
			Buckets: []float64{.01, .05, .25, 1, 2, 4, 8},
		}, []string{"queue"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_proxy_queue_refused_total", Help: "Requests that got no turn.",
		}, []string{"queue", "reason"}),
	}
}

func (m *Metrics) request(rec *record) {
	kind := string(rec.exchange.Pull.Kind)
	if kind == "" {
		kind = "other"
	}
	m.requests.WithLabelValues(kind, strconv.Itoa(rec.status)).Inc()
	m.firstByte.WithLabelValues(kind, rec.outcome()).Observe(rec.first.Seconds())
	m.bytes.WithLabelValues(kind).Add(float64(rec.bytes))
}

// outcome is what the client got of it, in one word: there are a few, whatever the status.
func (rec *record) outcome() string {
	switch {
	case rec.status == statusClientGone:
		return "gone"
	case rec.status == http.StatusNotFound:
		return "not_found"
	case rec.status == http.StatusTooManyRequests:
		return "limited"
	case rec.status >= http.StatusInternalServerError:
		return "failed"
	case rec.status >= http.StatusBadRequest:
		return "refused"
	case rec.fetched.Err != nil:
		return "cut"
	default:
		return "served"
	}
}

// Attempt counts a request to an upstream.
func (m *Metrics) Attempt(host string, o judge.Outcome) {
	m.attempts.WithLabelValues(host, string(o)).Inc()
}

// Token counts a token that was asked for; err is why there is none.
func (m *Metrics) Token(host string, err error) {
	outcome := "given"
	if err != nil {
		o, _ := judge.OfError(err)
		outcome = string(o)
	}
	m.tokens.WithLabelValues(host, outcome).Inc()
}

// Waiting counts who waits for a turn.
func (m *Metrics) Waiting(name string, more int) { m.waiting.WithLabelValues(name).Add(float64(more)) }

// Waited notes a wait.
func (m *Metrics) Waited(name string, d time.Duration) {
	m.waits.WithLabelValues(name).Observe(d.Seconds())
}

// Refused counts who got no turn.
func (m *Metrics) Refused(name string, why error) {
	reason := "late"
	if errors.Is(why, queue.ErrFull) {
		reason = "full"
	}
	m.refused.WithLabelValues(name, reason).Inc()
}

// Resumed counts a body that broke.
func (m *Metrics) Resumed() { m.resumes.Inc() }

// Limited notes until when an upstream asked us to wait.
func (m *Metrics) Limited(host string, until time.Time) {
	at := 0.0
	if !until.IsZero() {
		at = float64(until.Unix())
	}
	m.limited.WithLabelValues(host).Set(at)
}

// Spared counts a request that was not sent.
func (m *Metrics) Spared(host string) { m.spared.WithLabelValues(host).Inc() }

// Forget drops the series of an upstream that is not routed to any more.
func (m *Metrics) Forget(host string) {
	for _, of := range []interface{ DeletePartialMatch(prometheus.Labels) int }{m.attempts, m.tokens, m.limited, m.spared} {
		of.DeletePartialMatch(prometheus.Labels{"upstream": host})
	}
}
