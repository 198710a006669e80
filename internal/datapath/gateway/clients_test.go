package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/upstream"
)

// nodes pull layers that end when they may.
type nodes struct {
	*instance
	roots *x509.CertPool
	asked chan struct{} // one for each layer under way

	pulls    sync.WaitGroup
	mu       sync.Mutex
	statuses map[string]map[int]int // by node
}

// get is the status of a request from an address, once its body is through; 0 without an
// answer. All nodes have one user.
func (n *nodes) get(ctx context.Context, from byte, path string) int {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, from)}}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: n.roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+n.clients+path, nil)
	if err != nil {
		n.t.Error(err)
		return 0
	}
	req.SetBasicAuth("node", fronttest.NodePassword)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// layers are so many pulls from a node at once.
func (n *nodes) layers(ctx context.Context, from byte, many int) {
	for range many {
		n.pulls.Go(func() {
			status := n.get(ctx, from, "/v2/system/deckhouse/tool/blobs/sha256:"+strings.Repeat("0", 64))
			n.mu.Lock()
			defer n.mu.Unlock()
			key := strconv.Itoa(int(from))
			if n.statuses[key] == nil {
				n.statuses[key] = map[int]int{}
			}
			n.statuses[key][status]++
		})
	}
}

// under waits until so many more layers are under way, and looks that there are no others.
func (n *nodes) under(want int, who string) {
	n.t.Helper()
	for i := range want {
		select {
		case <-n.asked:
		case <-time.After(7 * time.Second): // below the patience of who waits
			n.t.Fatalf("%s has %d layers under way, want %d", who, i, want)
		}
	}
	select {
	case <-n.asked:
		n.t.Fatalf("%s has more than %d layers under way", who, want)
	case <-time.After(200 * time.Millisecond):
	}
}

// TestANodeWaitsForItself: through all of the proxy, with TLS and the one password that
// nodes have. A node that pulls 40 layers of the 16 at a time gets half of them, keeps
// another from none, and itself from no manifest. Who gets no turn is told to come later.
func TestANodeWaitsForItself(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	i := startInstance(t, func(*Config) { debug.SetMemoryLimit(1 << 20) }) // 16 at a time
	debug.SetMemoryLimit(before)
	n := &nodes{instance: i, roots: x509.NewCertPool(), asked: make(chan struct{}, 100), statuses: map[string]map[int]int{}}
	end := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(1<<20))
		_ = http.NewResponseController(w).Flush()
		n.asked <- struct{}{}
		select {
		case <-end:
			_, _ = w.Write(make([]byte, 1<<20))
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(slow.Close)
	good := fronttest.Content(t, 1, upstream.Upstream{Host: strings.TrimPrefix(slow.URL, "http://"), Scheme: upstream.HTTP, Path: "team"})
	n.roots.AppendCertsFromPEM(good["tls.crt"])
	i.put(good)
	eventually(t, "ready", func() bool { return i.readyz() == http.StatusOK })

	n.layers(t.Context(), 2, 40)
	n.under(8, "the greedy one")
	n.layers(t.Context(), 3, 3)
	n.under(3, "the other one")
	if status := n.get(t.Context(), 2, manifest); status != http.StatusNotFound {
		t.Errorf("a manifest for the greedy one: %d", status)
	}
	eventually(t, "those that wait are told", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.statuses["2"][http.StatusTooManyRequests] == 32
	})
	close(end)
	n.pulls.Wait()
	if n.statuses["2"][http.StatusOK] != 8 || n.statuses["3"][http.StatusOK] != 3 {
		t.Errorf("%v", n.statuses)
	}
}
