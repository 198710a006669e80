package transport

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// secureUpstream is one with TLS, as an upstream.
func secureUpstream(t *testing.T, server *httptest.Server) upstream.Upstream {
	t.Helper()
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return upstream.Upstream{Host: server.Listener.Addr().String(), Scheme: upstream.HTTPS, CA: string(ca), Path: "x"}
}

// TestConnectionsAreKept: as many clients as before need no new connections to the
// upstream.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	const clients = 100
	var made atomic.Int64
	var all sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		all.Done()
		all.Wait() // until all of them are here: none can use the connection of another
		w.WriteHeader(http.StatusOK)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	tr, err := New(secureUpstream(t, server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	for range 3 {
		all.Add(clients)
		var asked sync.WaitGroup
		for range clients {
			asked.Go(func() {
				if err := tr.Ping(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		asked.Wait()
	}
	if n := made.Load(); n != clients {
		t.Errorf("%d connections for %d clients", n, clients)
	}
}

// TestASessionIsResumed: a new connection to a server that we know needs no whole handshake.
func TestASessionIsResumed(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var resumed []bool
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			resumed = append(resumed, r.TLS.DidResume)
		}))
		server.TLS = &tls.Config{MinVersion: version, MaxVersion: version}
		tr, err := New(secureUpstream(t, server))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := tr.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			tr.CloseIdleConnections()
		}
		if got := fmt.Sprint(resumed); got != "[false true true]" {
			t.Errorf("version %x: resumed: %s", version, got)
		}
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	r := testregistry.New(t, testregistry.Options{TLS: true, Username: "u", Password: "p"})
	tr, err := New(r.Upstream(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	for status, ok := range map[int]bool{0: true, 401: true, 403: true, 404: true, 429: true, 500: false, 503: false} {
		r.SetFaults(testregistry.Faults{Status: status})
		if err := tr.Ping(t.Context()); (err == nil) != ok {
			t.Errorf("%d: %v", status, err)
		}
	}
	r.Stop()
	if err := tr.Ping(t.Context()); err == nil {
		t.Error("a dead registry was reached")
	}
	u := r.Upstream("")
	u.CA = ""
	r.SetFaults(testregistry.Faults{})
	r.Start(t)
	if tr, err = New(u); err != nil || tr.Ping(t.Context()) == nil {
		t.Errorf("a certificate that nobody vouches for was accepted: %v", err)
	}
}
