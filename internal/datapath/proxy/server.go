package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// GetCertificate is what crypto/tls asks at each handshake, so that a renewed
// certificate needs no restart.
type GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// NewServer is the server for pulls. It has no limit for a whole request:
// layers are large and links thin. HTTP/1.1 only: a connection per layer is
// faster than streams of one. log gets handshakes that others break off, at
// debug.
func NewServer(h http.Handler, certificate GetCertificate, log *slog.Logger) *http.Server {
	var http1 http.Protocols
	http1.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		TLSConfig:         &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12},
		Protocols:         &http1,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Drain is how a server stops.
type Drain struct {
	// Delay is how long it goes on as before when told to stop, so that no
	// client is sent here any more when it ends.
	Delay time.Duration
	// Limit is how long requests under way have after that.
	Limit time.Duration
}

// Serve serves with TLS until the context ends and the requests under way are
// through, or cut when they take too long. An error means that it could not
// serve; it closes the listener in any case.
func Serve(ctx context.Context, server *http.Server, listener net.Listener, drain Drain, log *slog.Logger) error {
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve pulls: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping", "delay", drain.Delay, "drain", drain.Limit)
	select {
	case err := <-failed:
		return fmt.Errorf("serve pulls: %w", err)
	case <-time.After(drain.Delay):
	}
	// The context has ended: what is left has a limit of its own.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain.Limit)
	defer cancel()
	err := server.Shutdown(limited)
	if err != nil {
		log.Warn("requests under way were cut", "err", err)
		err = server.Close()
	}
	if stopped := <-failed; !errors.Is(stopped, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve pulls: %w", stopped))
	}
	return err
}
