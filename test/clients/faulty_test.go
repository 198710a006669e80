package clients

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

// kind is one way in which a registry fails.
type kind string

const (
	cut       kind = "cut"             // the connection ends in the middle of a body
	reset     kind = "reset"           // the same with RST
	stall     kind = "stall, then cut" // silence for a while, then the end
	silence   kind = "silence"         // silence until somebody gives up
	refused   kind = "5xx"             // instead of an answer
	truncated kind = "truncated"       // a body that is shorter, and said to be so
	unended   kind = "no length"       // a body that is shorter, without a length
	wrong     kind = "wrong bytes"     // as many bytes, one of them another
)

// fault happens to the first requests for one thing, whichever of the registries is asked.
type fault struct {
	kind   kind
	victim item
	// at is where in its body each of the requests fails, as a share of its length: so
	// many fail.
	at     []float64
	status int           // of refused
	pause  time.Duration // of stall
}

// plan is the fault of the moment, for all registries.
type plan struct {
	mu    sync.Mutex
	fault fault
	asked int // how often the victim was asked for
}

func (p *plan) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.asked = f, 0
}

// times is how often the victim was asked for.
func (p *plan) times() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// due is the fault for a request, and where in the body.
func (p *plan) due(req *http.Request) (f fault, at float64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if req.Method != http.MethodGet || !p.fault.victim.is(path.Base(req.URL.Path)) {
		return fault{}, 0, false
	}
	p.asked++
	if p.asked > len(p.fault.at) {
		return fault{}, 0, false
	}
	return p.fault, p.fault.at[p.asked-1], true
}

type connKey struct{}

// newFaulty is a server in front of a registry that fails as planned.
func newFaulty(t *testing.T, registry upstream.Upstream, p *plan) upstream.Upstream {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(registry.CA))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 16}
	to := &url.URL{Scheme: "https", Host: registry.Host}
	quiet := log.New(io.Discard, "", 0)
	relay := &httputil.ReverseProxy{
		Transport: transport, ErrorLog: quiet,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
	}
	pair, ca, err := cert.SelfSigned("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, at, ok := p.due(r)
		switch {
		case !ok:
			relay.ServeHTTP(w, r)
		case f.kind == refused:
			http.Error(w, "not now", f.status)
		default:
			relay.ServeHTTP(&spoiled{ResponseWriter: w, req: r, fault: f, share: at}, r)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = quiet
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	u := registry
	u.Host, u.CA = server.Listener.Addr().String(), ca
	return u
}

// spoiled is an answer that fails at a share of its body.
type spoiled struct {
	http.ResponseWriter
	req   *http.Request
	fault fault
	share float64

	begun    bool
	at, sent int64
}

func (s *spoiled) WriteHeader(status int) {
	length, err := strconv.ParseInt(s.Header().Get("Content-Length"), 10, 64)
	if err == nil && status < http.StatusMultipleChoices {
		s.begun = true
		s.at = int64(s.share * float64(length))
		if s.fault.kind == truncated {
			s.Header().Set("Content-Length", strconv.FormatInt(s.at, 10))
		}
		if s.fault.kind == unended {
			s.Header().Del("Content-Length")
		}
	}
	s.ResponseWriter.WriteHeader(status)
	if s.begun && s.at == 0 {
		s.fail()
	}
}

func (s *spoiled) Write(p []byte) (int, error) {
	before := s.sent
	s.sent += int64(len(p))
	if !s.begun || s.sent <= s.at && s.fault.kind != wrong {
		return s.ResponseWriter.Write(p)
	}
	if s.fault.kind == wrong {
		if before <= s.at && s.at < s.sent {
			p = append([]byte(nil), p...)
			p[s.at-before] ^= 0x55
		}
		return s.ResponseWriter.Write(p)
	}
	if left := s.at - before; left > 0 {
		if n, err := s.ResponseWriter.Write(p[:left]); err != nil {
			return n, err
		}
	}
	s.fail()
	return len(p), nil // of what is too short nothing more comes
}

// fail ends the answer, unless it is one that only lacks something.
func (s *spoiled) fail() {
	switch s.fault.kind {
	case truncated, unended, wrong, refused:
		return
	case cut, reset, stall, silence:
	}
	_ = http.NewResponseController(s.ResponseWriter).Flush()
	pause := s.fault.pause
	if s.fault.kind == silence {
		pause = time.Hour
	}
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.req.Context().Done():
		}
	}
	if c, ok := s.req.Context().Value(connKey{}).(*tls.Conn); ok && s.fault.kind == reset {
		if inner, ok := c.NetConn().(*net.TCPConn); ok {
			_ = inner.SetLinger(0)
			_ = inner.Close()
		}
	}
	panic(http.ErrAbortHandler)
}

// Unwrap is for http.ResponseController.
func (s *spoiled) Unwrap() http.ResponseWriter { return s.ResponseWriter }
