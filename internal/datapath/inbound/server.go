package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// GetCertificate is what crypto/tls asks at each handshake, so that a renewed
// certificate needs no restart.
type GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Config is what differs between listeners.
type Config struct {
	// Name is what is listened for, for metrics and messages: "pulls".
	Name string
	// Certificate is nil for a port without TLS.
	Certificate GetCertificate
	// Shown has clients asked for a certificate, which nothing here looks at.
	Shown  bool
	Limits Limits
	// Metrics may be nil.
	Metrics *Metrics
	// Log gets handshakes that others break off, at debug.
	Log *slog.Logger
}

// Server serves one listener.
type Server struct {
	cfg  Config
	http *http.Server
	// stopping is set when it was told to stop.
	stopping atomic.Bool
}

// New makes a server. It has no limit for a whole request: layers are large and
// links thin. HTTP/1.1 only: a connection per layer is faster than streams of one,
// and there are no streams to count.
func New(h http.Handler, cfg Config) *Server {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Metrics == nil {
		cfg.Metrics = newMetrics()
	}
	var http1 http.Protocols
	http1.SetHTTP1(true)
	s := &Server{cfg: cfg}
	s.http = &http.Server{
		Handler:   s.ending(refuseBodies(h)),
		Protocols: &http1,
		// No ReadTimeout: net/http ends the context of an answer that takes longer.
		ReadHeaderTimeout: cfg.Limits.Header, // and that of a handshake
		IdleTimeout:       cfg.Limits.Idle,
		MaxHeaderBytes:    64 << 10,
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	if cfg.Certificate != nil {
		s.http.TLSConfig = &tls.Config{GetCertificate: cfg.Certificate, MinVersion: tls.VersionTLS12}
		if cfg.Shown {
			s.http.TLSConfig.ClientAuth = tls.RequestClientCert
		}
	}
	return s
}

// ending has connections end with their answer once the server is to stop: closed when
// they seem idle, some would be closed under the next request.
func (s *Server) ending(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// refuseBodies answers requests that carry a body, before anybody asks for
// credentials: nothing of ours takes one, and whoever waits for one that never comes
// waits for ever.
func refuseBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 { // -1: chunked
			next.ServeHTTP(w, r)
			return
		}
		if c, ok := r.Context().Value(connKey{}).(*conn); ok {
			c.late(withBody)
		}
		// Else net/http would read on after the answer.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // an error means that nobody is there
		refuse(w, r, http.StatusRequestEntityTooLarge, "UNSUPPORTED", "requests with a body are not served here")
	})
}

// later is the Retry-After of who has too many connections, in seconds, as for who gets no
// turn.
const later = "5"

// refuse answers with an OCI error, and ends the connection.
func refuse(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`+"\n", code, message) // the client may be gone
	}
}

// Drain is how a server stops.
type Drain struct {
	// Delay is how long it goes on when told to stop, so that no client is sent here
	// any more when it ends. Connections end with their next answer from then on.
	Delay time.Duration
	// Limit is how long requests under way have after that.
	Limit time.Duration
}

// Serve serves until the context ends and the requests under way are through, or
// cut when they take too long. An error means that it could not serve; it closes
// the listener in any case. It is called once.
func (s *Server) Serve(ctx context.Context, on net.Listener, drain Drain) error {
	uncut, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	gated := &listener{Listener: on, gate: newGate(s.cfg.Name, s.cfg.Limits, s.cfg.Metrics), closed: make(chan struct{}), uncut: uncut}
	failed := make(chan error, 1)
	go func() {
		if s.http.TLSConfig == nil {
			failed <- s.http.Serve(gated)
			return
		}
		failed <- s.http.ServeTLS(gated, "", "")
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", s.cfg.Name, err)
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	s.cfg.Log.Info("stopping", "listener", s.cfg.Name, "delay", drain.Delay, "drain", drain.Limit)
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", s.cfg.Name, err)
	case <-time.After(drain.Delay):
	}
	// The context has ended: what is left has a limit of its own.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain.Limit)
	defer cancel()
	err := s.http.Shutdown(limited)
	if err != nil {
		s.cfg.Log.Warn("requests under way were cut", "listener", s.cfg.Name, "err", err)
		cut() // net/http closes one after the other, and says goodbye to each
		err = s.http.Close()
	}
	if stopped := <-failed; !errors.Is(stopped, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve %s: %w", s.cfg.Name, stopped))
	}
	return err
}
