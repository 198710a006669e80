package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

const (
	// findingFor is how long it is believed whether a server speaks HTTP/2 only.
	findingFor = time.Minute
	// maxFindings bounds the servers of an upstream of which that is remembered.
	maxFindings = 64
)

// onlyHTTP2 explains that a server of an upstream hung up by asking which protocols it
// has: one that speaks HTTP/2 only takes our connection and hangs up without a word. It
// asks once a minute: a server that hangs up on everybody must not get three connections
// for each of their requests.
type onlyHTTP2 struct {
	base *straight

	mu    sync.Mutex
	found map[string]*finding // by address
}

// finding is whether a server speaks HTTP/2 only.
type finding struct {
	until time.Time
	known chan struct{} // closed when only is
	only  bool
}

func (o *onlyHTTP2) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.base.RoundTrip(req)
	if err == nil || req.URL.Scheme != "https" || !hungUp(err) {
		return resp, err
	}
	if via, _ := o.base.Proxy(req); via != nil {
		return nil, err
	}
	if o.is(req.Context(), addressOf(req.URL), time.Now()) {
		return nil, judge.Errorf(judge.Blocked, "%s speaks HTTP/2 only, and HTTP/1.1 is needed: %w", req.URL.Host, err)
	}
	return nil, err
}

// is reports whether a server speaks HTTP/2 only. Of several requests at a time one asks,
// and the others wait for it.
func (o *onlyHTTP2) is(ctx context.Context, address string, now time.Time) bool {
	f, mine := o.find(address, now)
	if mine {
		agreed, answered := o.negotiates(ctx, address, "h2")
		if agreed {
			agreed, answered = o.negotiates(ctx, address, "http/1.1")
			f.only = answered && !agreed
		}
		if !answered { // it was not asked to the end, or is being restarted
			o.forget(address, f)
		}
		close(f.known)
	}
	select {
	case <-f.known:
		return f.only
	case <-ctx.Done():
		return false
	}
}

// find is what is remembered of a server; mine says that the caller has to find it out.
func (o *onlyHTTP2) find(address string, now time.Time) (f *finding, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f = o.found[address]; f != nil && now.Before(f.until) {
		return f, false
	}
	if o.found == nil || len(o.found) >= maxFindings {
		o.found = map[string]*finding{}
	}
	f = &finding{until: now.Add(findingFor), known: make(chan struct{})}
	o.found[address] = f
	return f, true
}

func (o *onlyHTTP2) forget(address string, f *finding) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found[address] == f {
		delete(o.found, address)
	}
}

// hungUp reports whether a server ended the connection without an answer. What that looks
// like depends on who was first; net/http has no name for a connection that ended before
// the request was sent.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.HasSuffix(err.Error(), "server closed idle connection")
}

// negotiates reports whether a server agrees to a protocol, and whether it said so at all:
// it took the connection and shook hands, sent an alert, or hung up as it does on us.
// Through an HTTP proxy it is not asked.
func (o *onlyHTTP2) negotiates(ctx context.Context, address, protocol string) (agreed, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	plain, err := o.base.DialContext(ctx, "tcp", address)
	if err != nil {
		return false, false
	}
	defer func() { _ = plain.Close() }()
	cfg := o.base.TLSClientConfig.Clone()
	cfg.NextProtos = []string{protocol}
	if cfg.ServerName, _, err = net.SplitHostPort(address); err != nil {
		return false, false
	}
	conn := tls.Client(plain, cfg)
	err = conn.HandshakeContext(ctx)
	var alert tls.AlertError
	var sent *net.OpError // as crypto/tls says that an alert came
	switch {
	case err == nil:
		return conn.ConnectionState().NegotiatedProtocol == protocol, true
	case errors.As(err, &alert), errors.As(err, &sent) && sent.Op == "remote error", errors.Is(err, io.EOF):
		return false, ctx.Err() == nil
	}
	return false, false
}
