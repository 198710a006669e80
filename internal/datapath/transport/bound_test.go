package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

// TestAServerThatTakesNothing holds up nobody: connections to it are closed with the lock of
// all that wait.
func TestAServerThatTakesNothing(t *testing.T) {
	t.Parallel()
	pair, ca, err := cert.SelfSigned("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	tr, err := New(upstream.Upstream{Scheme: upstream.HTTPS, Host: "127.0.0.1:1", CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	tr.base.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe() // it has no buffer
		t.Cleanup(func() { _ = theirs.Close() })
		go func() {
			c := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true})
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, good)
			}
		}()
		cfg := tr.base.TLSClientConfig.Clone()
		cfg.ServerName = "127.0.0.1"
		conn := tls.Client(newSocket(ours), cfg)
		return conn, conn.HandshakeContext(ctx)
	}
	readAll(t, held(t, tr.base, &scripted{upstream: tr.upstream}, 2))
	began := time.Now()
	tr.CloseIdleConnections()
	if took := time.Since(began); took > time.Second {
		t.Errorf("closed after %v", took)
	}
}

// TestWhatWaitsWritesNothingForLong: a server may have TLS answer it, and take nothing.
func TestWhatWaitsWritesNothingForLong(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	s := newSocket(conn)
	s.waits.Store(true)
	if n, err := s.Write([]byte("a")); n != 1 || err != nil {
		t.Errorf("with room: %d, %v", n, err)
	}
	ended := make(chan error, 1)
	go func() {
		for some := make([]byte, 1<<16); ; {
			if _, err := s.Write(some); err != nil {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		t.Log(err)
	case <-time.After(10 * time.Second):
		t.Error("it waits for room")
	}
}

// TestWhoDialsTakesWhatBecomesFree: a server may have a bound of connections, as net/http
// knows.
func TestWhoDialsTakesWhatBecomesFree(t *testing.T) {
	t.Parallel()
	for by, through := range peers() {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			s := serve(t, false, echo)
			tr := transportTo(t, s)
			var dials atomic.Int32
			dial := tr.base.DialContext
			tr.base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if dials.Add(1) > 1 {
					select {
					case <-ctx.Done():
					case <-t.Context().Done():
					}
					return nil, context.Canceled
				}
				return dial(ctx, network, address)
			}
			client := through(tr)
			first := held(t, client, s, 1)
			time.AfterFunc(100*time.Millisecond, func() { readAll(t, first) })
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if got, err := get(client, request(ctx, t, s, "/second"), false); err != nil {
					t.Errorf("%v, %.10q", err, got)
				}
			}
		})
	}
}

// TestWhatBecomesFreeIsClean: what came after an answer is nobody's, also of a connection that
// goes from one to the next at once.
func TestWhatBecomesFreeIsClean(t *testing.T) {
	t.Parallel()
	s := serve(t, false, script([]says{one(good + "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")}))
	tr := transportTo(t, s)
	first := held(t, tr.base, s, 1)
	dial := tr.base.DialContext
	tr.base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		readAll(t, first)
		<-time.After(100 * time.Millisecond) // it has been handed over
		return dial(ctx, network, address)
	}
	if got := ask(t, tr.base, s, http.MethodGet); got != "200 good" {
		t.Error(got)
	}
}
