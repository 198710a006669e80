package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// statusClientGone is logged, never sent: the client has gone.
const statusClientGone = 499

// record is what is known of a request when it ends. Only the goroutine that
// serves the request touches it.
type record struct {
	exchange fetch.Exchange
	fetched  fetch.Record
	status   int
	bytes    int64
	started  time.Time
	first    time.Duration // until the first byte of the body was sent, or the header of an answer without one
}

// logged writes the access log and the metrics, also of requests whose body
// was cut, which relay ends with a panic.
func logged(log *slog.Logger, metrics *Metrics, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &record{started: time.Now()}
		rec.exchange.Record = &rec.fetched
		metrics.inFlight.Inc()
		defer func() {
			metrics.inFlight.Dec()
			if rec.status == 0 && errors.Is(r.Context().Err(), context.Canceled) {
				rec.status = statusClientGone
			}
			if rec.first == 0 { // nothing came after the header, or not even that
				rec.first = time.Since(rec.started)
			}
			metrics.request(rec)
			rec.log(log, r)
		}()
		next.ServeHTTP(&countingWriter{ResponseWriter: w, record: rec}, r.WithContext(fetch.With(r.Context(), &rec.exchange)))
	})
}

// level is that of the access log: what failed is said, and the rest only to those who
// ask for it. Each line would be a cost of a small request, and nobody reads them all.
func (rec *record) level() slog.Level {
	switch {
	case rec.status == statusClientGone, rec.exchange.Pull.Kind == "":
		return slog.LevelDebug // the client's own doing; pings and what was not understood
	case rec.status == http.StatusNotFound && rec.fetched.Attempts == 0:
		return slog.LevelDebug // a name of somebody else, whose own registry containerd asks next
	case rec.status >= http.StatusBadRequest, rec.fetched.Err != nil:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// log writes one line: no query and no header, which may hold secrets, and of
// the path only what Parse accepted.
func (rec *record) log(log *slog.Logger, r *http.Request) {
	level := rec.level()
	if !log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.Int("status", rec.status),
		slog.String("name", rec.exchange.Pull.Host), slog.String("repo", rec.exchange.Pull.Repository),
		slog.String("kind", string(rec.exchange.Pull.Kind)), slog.String("ref", rec.exchange.Pull.Reference),
		slog.Int64("bytes", rec.bytes), slog.Duration("took", time.Since(rec.started).Round(time.Microsecond)),
		slog.String("upstream", rec.fetched.Upstream), slog.Int("attempts", rec.fetched.Attempts), slog.Int("resumed", rec.fetched.Resumed),
		slog.String("client", r.RemoteAddr),
	}
	if user, ok := regauth.UserFrom(r.Context()); ok {
		attrs = append(attrs, slog.String("user", user.Name))
	}
	if rec.fetched.Err != nil {
		attrs = append(attrs, slog.String("err", rec.fetched.Err.Error()))
	}
	log.LogAttrs(r.Context(), level, "pull", attrs...)
}

// countingWriter notes the status and counts bytes without getting in the way.
type countingWriter struct {
	http.ResponseWriter
	record *record
}

// WriteHeader drops informational answers: an upstream's 103 carries headers
// past the allow-list.
func (w *countingWriter) WriteHeader(status int) {
	if status < http.StatusOK {
		return
	}
	w.note(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.note(http.StatusOK)
	n, err := w.ResponseWriter.Write(p)
	if w.record.bytes == 0 {
		w.record.first = time.Since(w.record.started)
	}
	w.record.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController, which flushes.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countingWriter) note(status int) {
	if w.record.status == 0 {
		w.record.status = status
	}
}
