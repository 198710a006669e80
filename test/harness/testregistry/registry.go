package testregistry

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// Options are what a registry is for its whole life; see Faults for what
// changes.
type Options struct {
	TLS bool
	// Username and Password are asked for when set: as Basic, or by the token
	// server with Bearer.
	Username, Password string
	// Bearer makes the registry hand out tokens. Without a Username anybody
	// gets one.
	Bearer bool
	// TokenTTL is the life of a token; 0 means 5 minutes.
	TokenTTL time.Duration
	// RedirectBlobs answers GETs of blobs with 307 to a second server, on
	// another port of this host name ("127.0.0.1", "localhost").
	RedirectBlobs string
	// Inside is the path at which the registry really is: requests for repositories
	// are redirected there, on the same host, and tokens for them name InsideName
	// before the repository's own name. Some products do so.
	Inside, InsideName string
	Manner
}

// Registry is one registry, and if told so a second server for its blobs.
type Registry struct {
	opts  Options
	cert  tls.Certificate
	ca    string
	addr  string
	store http.Handler
	blobs registry.BlobHandler

	mu         sync.Mutex
	server     *httptest.Server
	faults     Faults
	faultsLeft int // how often faults is still applied; below 0: always
	log        []*Request
	bytes      map[string]int64
	tokens     map[string]grant
	others     map[string]string // users added later: name -> password
	held       []net.Conn
	left       int // of Limit
	closed     chan struct{}

	cdn, issuer *httptest.Server
}

// New starts a registry that stops with the test.
func New(t testing.TB, o Options) *Registry {
	t.Helper()
	r := &Registry{
		opts:   o,
		blobs:  registry.NewInMemoryBlobHandler(),
		bytes:  map[string]int64{},
		tokens: map[string]grant{},
		left:   o.Limit.Pulls,
		closed: make(chan struct{}),
	}
	r.store = registry.New(registry.WithBlobHandler(r.blobs), registry.Logger(log.New(io.Discard, "", 0)),
		registry.WithReferrersSupport(true))
	pair, ca, err := cert.SelfSigned("localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	r.cert, r.ca = pair, ca
	r.addr = "127.0.0.1:0"
	r.Start(t)
	if o.RedirectBlobs != "" {
		r.cdn = r.serve(t, "127.0.0.1:0", http.HandlerFunc(r.serveCDN))
	}
	if o.TokensElsewhere {
		r.issuer = r.serve(t, "127.0.0.1:0", http.HandlerFunc(r.serveTokens))
	}
	t.Cleanup(func() {
		close(r.closed)
		r.Stop()
		for _, s := range []*httptest.Server{r.cdn, r.issuer} {
			if s != nil {
				s.CloseClientConnections()
				s.Close()
			}
		}
	})
	return r
}

// Start listens, again on the same port after Stop.
func (r *Registry) Start(t testing.TB) {
	t.Helper()
	loopback.Freed(r.addr)
	s := r.serve(t, r.addr, http.HandlerFunc(r.serveRegistry))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server, r.addr = s, s.Listener.Addr().String()
}

// Stop closes the port and cuts every connection: the registry is dead.
func (r *Registry) Stop() {
	r.mu.Lock()
	s, held := r.server, r.held
	r.server, r.held = nil, nil
	r.mu.Unlock()
	for _, c := range held {
		_ = c.Close()
	}
	if s != nil {
		s.CloseClientConnections()
		s.Close()
	}
}

func (r *Registry) serve(t testing.TB, addr string, h http.Handler) *httptest.Server {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close() // the one that httptest made; ours keeps its port over Stop and Start
	s.Listener = &holdingListener{Listener: l, registry: r}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if r.opts.TLS {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{r.cert}, MinVersion: tls.VersionTLS12}
		s.StartTLS()
	} else {
		s.Start()
	}
	return s
}

// Host is the address of the registry, "127.0.0.1:port".
func (r *Registry) Host() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addr
}

// CDNHost is the address of the server that blobs are redirected to.
func (r *Registry) CDNHost() string {
	_, port, err := net.SplitHostPort(r.cdn.Listener.Addr().String())
	if err != nil {
		panic(err) // a listener's own address
	}
	return net.JoinHostPort(r.opts.RedirectBlobs, port)
}

// CA is the PEM that clients need to trust the registry; empty without TLS.
func (r *Registry) CA() string {
	if !r.opts.TLS {
		return ""
	}
	return r.ca
}

// Upstream is the registry below path, with its CA and credentials.
func (r *Registry) Upstream(path string) upstream.Upstream {
	return upstream.Upstream{
		Host: r.Host(), Path: path, Scheme: r.scheme(), CA: r.CA(),
		Credentials: upstream.Credentials{Username: r.opts.Username, Password: r.opts.Password},
	}
}

func (r *Registry) scheme() upstream.Scheme {
	if r.opts.TLS {
		return upstream.HTTPS
	}
	return upstream.HTTP
}

// holdingListener accepts and then says nothing while the fault HangOnAccept
// is set.
type holdingListener struct {
	net.Listener
	registry *Registry
}

func (l *holdingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || !l.registry.hold(c) {
			return c, err
		}
	}
}

func (r *Registry) hold(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.faults.HangOnAccept {
		return false
	}
	r.held = append(r.held, c)
	return true
}
