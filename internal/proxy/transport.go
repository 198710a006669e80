package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/d8-registry/registry/internal/regauth"
	"github.com/d8-registry/registry/internal/upstream"
)

// userAgent is what upstreams see; some refuse an empty one.
const userAgent = "d8-registry"

const (
	dialTimeout = 5 * time.Second
	maxRedirect = 5
)

// Transport is how one upstream is reached: its CA, its credentials, its
// redirects. It is an http.RoundTripper for requests to that upstream.
//
// There is no time limit in it but for dialing: the caller's context is the
// limit.
type Transport struct {
	upstream upstream.Upstream
	base     *http.Transport
	chain    http.RoundTripper
}

// NewTransport fails when the CA holds no certificate.
func NewTransport(u upstream.Upstream) (*Transport, error) {
	roots, err := rootsOf(u)
	if err != nil {
		return nil, err
	}
	origin := &url.URL{Scheme: string(u.Scheme), Host: u.Host}
	dialer := newDialer(origin)
	base := &http.Transport{
		Proxy:               dialer.proxy,
		DialContext:         dialer.dial,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     90 * time.Second,
		// Else Go asks for gzip by itself and drops Content-Length.
		DisableCompression: true,
		// HTTP/1.1 only: one connection per layer is faster for large bodies,
		// and a broken one takes no other layer with it.
		ForceAttemptHTTP2: false,
	}
	return &Transport{
		upstream: u,
		base:     base,
		chain: redirected{
			origin:     origin,
			authorized: regauth.NewTransport(u, base),
			plain:      base,
		},
	}, nil
}

// RoundTrip sends a request to the upstream and follows its redirects.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.chain.RoundTrip(req)
}

// CloseIdleConnections closes connections now, or as they become idle.
func (t *Transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// Ping is nil when the upstream answered GET /v2/ with anything that a living
// registry answers, a refusal included; 5xx is none.
func (t *Transport) Ping(ctx context.Context) error {
	address := url.URL{Scheme: string(t.upstream.Scheme), Host: t.upstream.Host, Path: "/v2/"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return fmt.Errorf("reach %s: %w", t.upstream.Host, err)
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := t.base.RoundTrip(req) //nolint:bodyclose // Discard does; without credentials: only reachability is asked
	if err != nil {
		return fmt.Errorf("reach %s: %w", t.upstream.Host, err)
	}
	regauth.Discard(resp)
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("reach %s: %s", t.upstream.Host, resp.Status)
	}
	return nil
}

// rootsOf are the system's certificates and the upstream's, as containerd
// reads a ca: redirects to a public CDN must work with a private CA as well.
func rootsOf(u upstream.Upstream) (*x509.CertPool, error) {
	if u.CA == "" {
		return nil, nil //nolint:nilnil // nil is how crypto/tls spells the system's roots
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without certificates still has the upstream's
	}
	if !roots.AppendCertsFromPEM([]byte(u.CA)) {
		return nil, errors.New("ca holds no PEM certificate")
	}
	return roots, nil
}
