package proxy

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestAccessLogLevels: what failed is said, and what succeeded only to who asks.
func TestAccessLogLevels(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		path, want string
		fault      int
	}{
		"served":               {path: manifestPath, want: "DEBUG"},
		"a ping":               {path: "/v2/", want: "DEBUG"},
		"a name of others":     {path: "/v2/other/tool/manifests/v1?" + ns, want: "DEBUG"},
		"not there":            {path: "/v2/" + repo + "/manifests/none?" + ns, want: "WARN"},
		"the registry failed":  {path: manifestPath, fault: 503, want: "WARN"},
		"the registry's limit": {path: manifestPath, fault: 429, want: "WARN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _, _ := pair(t, testregistry.Options{})
			s := start(t, Config{}, a.Upstream("team/a"))
			a.SetFaults(testregistry.Faults{Status: tc.fault})
			s.get(tc.path)
			if log := s.logged(); !strings.Contains(log, `"level":"`+tc.want+`","msg":"pull"`) {
				t.Errorf("not at %s: %s", tc.want, log)
			}
		})
	}
}

// TestNoLogIsNoCost: nothing is put together for a line that nobody reads.
func TestNoLogIsNoCost(t *testing.T) { // alone: it counts what the process allocates
	rec := &record{status: statusClientGone, pull: oci.Pull{Kind: oci.KindManifests}, err: io.EOF}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	log := foreign.NewLog(io.Discard, slog.LevelInfo)
	if n := testing.AllocsPerRun(100, func() { rec.log(log, req) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestWhatComesIsSent: a layer is passed on as it comes, also if what comes is little. Of
// several upstreams the end waits for its digest: without a length one byte, which may be it.
func TestWhatComesIsSent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ upstreams, length, first int }{
		"one upstream":        {1, 2 * smallBlob, smallBlob},
		"two":                 {2, 2 * smallBlob, smallBlob},
		"one, without length": {1, -1, smallBlob},
		"two, without length": {2, -1, smallBlob - 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whatComesIsSent(t, tc.upstreams, tc.length, tc.first)
		})
	}
}

// whatComesIsSent has the first half come, and the second when first bytes have arrived.
func whatComesIsSent(t *testing.T, upstreams, length, first int) {
	t.Helper()
	half := strings.Repeat("x", smallBlob)
	arrived := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if length >= 0 {
			w.Header().Set("Content-Length", strconv.Itoa(length))
		}
		_, _ = io.WriteString(w, half)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-arrived:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, half)
	}))
	t.Cleanup(up.Close)
	all := []upstream.Upstream{{Host: up.Listener.Addr().String(), Scheme: upstream.HTTP, Path: "x"}, host(t, http.NotFound)}
	s := start(t, Config{}, all[:upstreams]...)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+blobPath(judge.DigestLike("", []byte(half+half))), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{ResponseHeaderTimeout: 5 * time.Second}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	some := make([]byte, first)
	if _, err := io.ReadFull(resp.Body, some); err != nil {
		t.Fatal(err)
	}
	close(arrived)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(some)+string(rest) != half+half {
		t.Errorf("%d and %d bytes, %v", len(some), len(rest), err)
	}
}

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
	transport, err := NewTransport(secureUpstream(t, server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	for range 3 {
		all.Add(clients)
		var asked sync.WaitGroup
		for range clients {
			asked.Go(func() {
				if err := transport.Ping(t.Context()); err != nil {
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
		transport, err := NewTransport(secureUpstream(t, server))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := transport.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			transport.CloseIdleConnections()
		}
		if got := fmt.Sprint(resumed); got != "[false true true]" {
			t.Errorf("version %x: resumed: %s", version, got)
		}
	}
}
