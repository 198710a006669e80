package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	dialTimeout = 5 * time.Second
	maxRedirect = 10 // as containerd
	idleTimeout = 90 * time.Second

	// maxIdle is how many connections to an upstream, and to those that it sends us to,
	// wait for the next request. A handshake costs more than a small request: with fewer
	// than there are clients at a time, most of the work is handshakes.
	maxIdle = 256
	// maxSessions is how many servers we can go on with a session of, without a whole
	// handshake.
	maxSessions = 64

	// MaxHeader is how large the header of an answer may be, in bytes, for every client
	// that we make: larger ones are refused before they are in memory.
	MaxHeader = 128 << 10
)

// Transport is how one upstream is reached: its CA, its credentials, its
// redirects. It is an http.RoundTripper for requests to that upstream.
//
// There is no time limit in it but for dialing: the caller's context is the
// limit.
type Transport struct {
	upstream   upstream.Upstream
	base       *straight
	authorized *regauth.Transport
	chain      http.RoundTripper
}

// New fails when the CA holds no certificate.
func New(u upstream.Upstream) (*Transport, error) {
	return ForMirror(upstream.Mirror{Upstream: u, Root: oci.Root})
}

// ForMirror is New for what a user of the node set up.
func ForMirror(m upstream.Mirror) (*Transport, error) {
	u := m.Upstream
	secured, err := tlsOf(m)
	if err != nil {
		return nil, err
	}
	origin := u.Origin()
	dialer := newDialer(origin)
	dialer.secured = secured
	base := &straight{Transport: &http.Transport{
		Proxy:               dialer.proxy,
		DialContext:         dialer.connect,
		DialTLSContext:      dialer.connectTLS,
		TLSClientConfig:     secured, // behind an HTTP proxy
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns:        maxIdle,
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     idleTimeout,
		// The limit for trailers is net/http's own, 4 KiB.
		MaxResponseHeaderBytes: MaxHeader,
		// Else Go asks for gzip by itself and drops Content-Length.
		DisableCompression: true,
		// HTTP/1.1 only: one connection per layer is faster for large bodies,
		// and a broken one takes no other layer with it.
		ForceAttemptHTTP2: false,

		OnProxyConnectResponse: proxyAnswered,
	}}
	connected := &onlyHTTP2{base: base}
	var own http.RoundTripper = connected
	if len(m.Header) > 0 {
		own = headed{origin: origin, header: m.Header, next: own}
	}
	authorized := regauth.NewTransport(u, m.Root, own)
	return &Transport{
		upstream: u, base: base, authorized: authorized,
		chain: redirected{origin: origin, authorized: authorized, others: &strangers{base: connected}},
	}, nil
}

// ForStore is ForMirror for a store of the cluster: to what is as near no HTTP proxy is on the way, which
// may not even reach it.
func ForStore(m upstream.Mirror) (*Transport, error) {
	t, err := ForMirror(m)
	if err == nil {
		t.base.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } //nolint:nilnil // how net/http spells none
	}
	return t, err
}

// proxyAnswered names the HTTP proxy where net/http would only say what it answered.
func proxyAnswered(_ context.Context, via *url.URL, _ *http.Request, resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusOK:
		return nil
	case judge.Passing(resp.StatusCode):
		return fmt.Errorf("the HTTP proxy %s on the way: %s", via.Host, resp.Status)
	default:
		return judge.Errorf(judge.Blocked, "the HTTP proxy %s on the way refused: %s", via.Host, resp.Status)
	}
}

// tlsOf says which certificates we believe of a registry, and which we show.
func tlsOf(m upstream.Mirror) (*tls.Config, error) {
	roots, err := rootsOf(m.Upstream)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(maxSessions),
		NextProtos: []string{"http/1.1"}, // said, a server that has none refuses it, else it only hangs up
	}
	cfg.InsecureSkipVerify = m.SkipVerify // only a user's own file can say so, never a layout
	for i, c := range m.ClientCerts {
		pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
		if err != nil {
			return nil, fmt.Errorf("client certificate %d: %w", i+1, err)
		}
		cfg.Certificates = append(cfg.Certificates, pair)
	}
	return cfg, nil
}

// headed adds a user's own headers to requests to the registry itself, and not
// to those that follow its redirects. Headers that we set, that change the
// meaning of a request, or that belong to its connection stay as they are.
type headed struct {
	origin *url.URL
	header map[string][]string
	next   http.RoundTripper
}

func (h headed) RoundTrip(req *http.Request) (*http.Response, error) {
	if !regauth.SameServer(h.origin, req.URL) {
		return h.next.RoundTrip(req)
	}
	out := req.Clone(req.Context()) // a RoundTripper must not change what it was given
	for name, values := range h.header {
		name = http.CanonicalHeaderKey(name)
		if !oci.Reserved(name) && (name == "User-Agent" || len(out.Header[name]) == 0) {
			out.Header[name] = values
		}
	}
	return h.next.RoundTrip(out)
}

// RoundTrip sends a request to the upstream and follows its redirects.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.chain.RoundTrip(req)
}

// TellTokens has told called for each token that is asked for with our credentials, and why
// there is none. It comes before the first request.
func (t *Transport) TellTokens(told func(error)) { t.authorized.TellTokens(told) }

// CloseIdleConnections closes connections now, or as they become idle.
func (t *Transport) CloseIdleConnections() {
	t.base.kept.retire()
	t.base.CloseIdleConnections()
}

// Ping is nil when the upstream answered GET /v2/ as a registry that works does.
// Any status below 500 will do, also a refusal.
func (t *Transport) Ping(ctx context.Context) error {
	address := t.upstream.Origin()
	address.Path = "/v2/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return fmt.Errorf("reach %s: %w", t.upstream.Host, err)
	}
	req.Header.Set("User-Agent", judge.UserAgent)
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
