package front

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health answers the kubelet and Prometheus, on a port of its own: the other
// one asks for credentials.
type health struct {
	ready    func() error
	draining atomic.Bool
}

// handler answers more paths too, by pattern.
func (h *health) handler(metrics prometheus.Gatherer, more map[string]http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if h.draining.Load() {
			answer(w, errors.New("stopping"))
			return
		}
		answer(w, h.ready())
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	for pattern, handler := range more {
		mux.Handle(pattern, handler)
	}
	return mux
}

func answer(w http.ResponseWriter, err error) {
	text := "ok"
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = err.Error()
	}
	_, _ = fmt.Fprintln(w, text) // the client may be gone
}
