package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

// onlyHTTP2 explains that a server of an upstream hung up by asking which protocols it
// has: one that speaks HTTP/2 only takes our connection and hangs up without a word.
type onlyHTTP2 struct{ base *http.Transport }

func (o onlyHTTP2) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.base.RoundTrip(req)
	if err == nil || req.URL.Scheme != "https" || !hungUp(err) {
		return resp, err
	}
	if via, _ := o.base.Proxy(req); via != nil {
		return nil, err
	}
	address := addressOf(req.URL)
	if o.negotiates(req.Context(), address, "h2") && !o.negotiates(req.Context(), address, "http/1.1") {
		return nil, judge.Errorf(judge.Blocked, "%s speaks HTTP/2 only, and HTTP/1.1 is needed: %w", req.URL.Host, err)
	}
	return nil, err
}

// hungUp reports whether a server ended the connection without an answer. What that looks
// like depends on who was first; net/http has no name for a connection that ended before
// the request was sent.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.HasSuffix(err.Error(), "server closed idle connection")
}

// negotiates reports whether a server agrees to a protocol. Through an HTTP proxy it is
// not asked.
func (o onlyHTTP2) negotiates(ctx context.Context, address, protocol string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	plain, err := o.base.DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer func() { _ = plain.Close() }()
	cfg := o.base.TLSClientConfig.Clone()
	cfg.NextProtos = []string{protocol}
	if cfg.ServerName, _, err = net.SplitHostPort(address); err != nil {
		return false
	}
	conn := tls.Client(plain, cfg)
	return conn.HandshakeContext(ctx) == nil && conn.ConnectionState().NegotiatedProtocol == protocol
}
