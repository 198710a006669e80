package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

// TestBehindAProxyNobodyIsAskedDirectly: also not why a connection was closed.
func TestBehindAProxyNobodyIsAskedDirectly(t *testing.T) {
	t.Parallel()
	var past atomic.Int32
	base := &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.example"}),
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			if address != "proxy.example:80" {
				past.Add(1)
			}
			ours, theirs := net.Pipe()
			go func() {
				_, _ = http.ReadRequest(bufio.NewReader(theirs))
				_, _ = io.WriteString(theirs, "HTTP/1.1 200 OK\r\n\r\n")
				_, _ = theirs.Read(make([]byte, 16<<10)) // all of its first words
				_ = theirs.Close()
			}()
			return ours, nil
		},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://registry.example/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&onlyHTTP2{base: &straight{Transport: base}}).RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if n := past.Load(); err == nil || n > 0 {
		t.Errorf("%d connections past the proxy; %v", n, err)
	}
}

// hangsUp is a server that agrees to HTTP/2 where it is offered, and closes every other
// connection without a word. made counts its connections.
func hangsUp(t *testing.T) (u upstream.Upstream, made *atomic.Int32) {
	t.Helper()
	return hangsUpAnd(t, func(net.Conn) bool { return false })
}

// hangsUpAnd is hangsUp of a server that is gone for the connections that it is asked about.
func hangsUpAnd(t *testing.T, gone func(net.Conn) bool) (u upstream.Upstream, made *atomic.Int32) {
	t.Helper()
	own, ca, err := cert.SelfSigned("localhost")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plain.Close() })
	_, port, err := net.SplitHostPort(plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	made = new(atomic.Int32)
	cfg := &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen := cfg.Clone()
		if slices.Contains(hello.SupportedProtos, "h2") {
			chosen.NextProtos = []string{"h2"}
		}
		return chosen, nil
	}
	go func() {
		for {
			conn, err := plain.Accept()
			if err != nil {
				return
			}
			made.Add(1)
			if gone(conn) {
				continue
			}
			go func() {
				server := tls.Server(conn, cfg)
				_ = server.HandshakeContext(t.Context())
				_ = server.Close()
			}()
		}
	}()
	return upstream.Upstream{Host: "localhost:" + port, Scheme: upstream.HTTPS, CA: ca}, made
}

// TestAServerThatHangsUpIsAskedOnce: each request costs it one connection, and not one
// more for each protocol; also of requests at the same time.
func TestAServerThatHangsUpIsAskedOnce(t *testing.T) {
	t.Parallel()
	u, made := hangsUp(t)
	tr, err := New(u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	const requests = 8
	var all sync.WaitGroup
	for range requests {
		all.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+u.Host+"/v2/x/tags/list", nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := tr.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			if outcome, reason := judge.OfError(err); outcome != judge.Blocked || !strings.Contains(reason, "HTTP/2 only") {
				t.Errorf("%s: %s", outcome, reason)
			}
		})
	}
	all.Wait()
	if n := made.Load(); n != requests+2 {
		t.Errorf("%d connections for %d requests", n, requests)
	}
}

// TestFindingsEnd: what was found holds for a minute, is bounded, and is nothing if the
// question was not asked to its end.
func TestFindingsEnd(t *testing.T) {
	t.Parallel()
	u, made := hangsUp(t)
	tr, err := New(u)
	if err != nil {
		t.Fatal(err)
	}
	o, now := &onlyHTTP2{base: tr.base}, time.Now()
	gone, leave := context.WithCancel(t.Context())
	leave()
	if o.is(gone, u.Host, now) {
		t.Error("an answer for nobody")
	}
	before := made.Load()
	for _, step := range []struct {
		after time.Duration
		asked int32
	}{{0, 2}, {findingFor - 1, 2}, {findingFor, 4}} {
		if !o.is(t.Context(), u.Host, now.Add(step.after)) {
			t.Errorf("after %s: not found", step.after)
		}
		if n := made.Load() - before; n != step.asked {
			t.Errorf("after %s: %d connections, want %d", step.after, n, step.asked)
		}
	}
	for i := range 10 * maxFindings {
		o.find(strconv.Itoa(i), now)
	}
	if n := len(o.found); n > maxFindings {
		t.Errorf("%d are remembered", n)
	}
}

// TestARestartIsNotHTTP2Only: a server that is gone for one of the questions has not said
// what it speaks, and is asked again at the next request.
func TestARestartIsNotHTTP2Only(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	u, made := hangsUpAnd(t, func(conn net.Conn) bool {
		if asked.Add(1) != 2 {
			return false
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset
		}
		_ = conn.Close()
		return true
	})
	tr, err := New(u)
	if err != nil {
		t.Fatal(err)
	}
	o, now := &onlyHTTP2{base: tr.base}, time.Now()
	if o.is(t.Context(), u.Host, now) {
		t.Error("one that was being restarted speaks HTTP/2 only")
	}
	if !o.is(t.Context(), u.Host, now) || made.Load() != 4 {
		t.Errorf("it is not asked again: %d connections", made.Load())
	}
}
