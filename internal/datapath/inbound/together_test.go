package inbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/cert"
)

// counted counts what is written to the connections of a listener.
type counted struct {
	net.Listener

	writes *atomic.Int64
}

type countedConn struct {
	net.Conn

	writes *atomic.Int64
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(16 << 10) // what does not fit is waited for
	}
	return countedConn{c, l.writes}, err
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// piece is what a handler writes, in bytes: four records.
const piece = 64 << 10

// pieces serves n of them, with and without Together. It returns what a client with small
// buffers gets, who waits before each read, and the writes below TLS that it took.
func pieces(t *testing.T, n int, together bool, unread, wait time.Duration) (got []byte, writes int64) {
	t.Helper()
	pair, ca, err := cert.SelfSigned("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	var wrote atomic.Int64
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := func(w http.ResponseWriter, r *http.Request) {
		send := func(write func() error) error { return write() }
		if together {
			send = Together(r.Context())
		}
		w.Header().Set("Content-Length", strconv.Itoa(n*piece))
		_ = http.NewResponseController(w).Flush() // an error comes again
		before := wrote.Load()
		if err := send(func() error {
			for i := range n {
				if _, err := w.Write(bytes.Repeat([]byte{byte('a' + i%26)}, piece)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			panic(http.ErrAbortHandler)
		}
		writes = wrote.Load() - before
	}
	server := New(Known(http.HandlerFunc(h)), Config{
		Name: "pulls", Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil },
		Limits: Limits{Unread: unread}, Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, counted{listener, &wrote}, Drain{}) }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	raw, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(16 << 10) // else the kernel takes a whole piece at a time
	}
	c := tls.Client(raw, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13, ServerName: "127.0.0.1"})
	defer func() { _ = c.Close() }()
	got = readSlowly(t, c, wait)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return got, writes
}

// readSlowly asks, and reads the body, a record at a time.
func readSlowly(t *testing.T, c net.Conn, wait time.Duration) []byte {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for buffer := make([]byte, 16<<10); ; <-time.After(wait) {
		n, err := c.Read(buffer)
		if got = append(got, buffer[:n]...); err != nil {
			_, body, _ := bytes.Cut(got, []byte("\r\n\r\n"))
			return body
		}
	}
}

// TestTogetherIsOneWrite: four records of TLS go out as one, and are the same to a client.
func TestTogetherIsOneWrite(t *testing.T) {
	t.Parallel()
	alone, many := pieces(t, 4, false, 0, 0)
	got, few := pieces(t, 4, true, 0, 0)
	if !bytes.Equal(got, alone) || len(got) != 4*piece {
		t.Errorf("%d bytes, and %d without", len(got), len(alone))
	}
	if few > 2 || many < 16 {
		t.Errorf("%d writes for 4 pieces, and %d without", few, many)
	}
}

// TestASlowClientGetsAll: what goes out at once takes longer than a client may take nothing;
// any progress counts.
func TestASlowClientGetsAll(t *testing.T) {
	t.Parallel()
	got, _ := pieces(t, 4, true, time.Second, 100*time.Millisecond)
	if len(got) != 4*piece {
		t.Errorf("%d of %d bytes", len(got), 4*piece)
	}
}

// TestWhoTakesNothingIsCut: a server that is to end waits for none of those who take nothing of
// what goes out at once. TLS would say goodbye to one after the other, for five seconds each.
func TestWhoTakesNothingIsCut(t *testing.T) {
	t.Parallel()
	var wrote atomic.Int64
	client, address, stop, ended := served(t, func(w http.ResponseWriter, r *http.Request) {
		together := Together(r.Context())
		for {
			if err := together(func() error { _, err := w.Write(make([]byte, 2*piece)); return err }); err != nil {
				panic(http.ErrAbortHandler)
			}
			wrote.Add(1)
		}
	}, Drain{Limit: 100 * time.Millisecond})
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
	}
	until(t, "all wait for their clients", func() bool {
		before := wrote.Load()
		<-time.After(200 * time.Millisecond)
		return wrote.Load() == before
	})
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("clients that take nothing are waited for: %v", <-ended)
	}
}
