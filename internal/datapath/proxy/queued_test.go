package proxy

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/upstream"
)

// slow is a registry that ends no layer before it may.
type slow struct {
	upstream upstream.Upstream
	asked    chan struct{} // one for each layer that it began with
	end      chan struct{} // closed when they may end
}

func newSlow(t *testing.T) *slow {
	t.Helper()
	s := &slow{asked: make(chan struct{}, 100), end: make(chan struct{})}
	s.upstream = host(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		if !isBlob(r) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(1<<20))
		_ = http.NewResponseController(w).Flush()
		s.asked <- struct{}{}
		select {
		case <-s.end:
		case <-r.Context().Done():
		}
	})
	return s
}

func byHeader(r *http.Request) string { return r.Header.Get("Who") }

// TestAClientWaitsForItself: one that pulls all that it can keeps neither another from a
// layer nor anybody from a manifest.
func TestAClientWaitsForItself(t *testing.T) {
	t.Parallel()
	up := newSlow(t)
	s := start(t, Config{Client: byHeader, Downloads: 8, Patience: time.Minute}, up.upstream)
	var all sync.WaitGroup
	pull := func(who string) {
		all.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+blobPath(someDigest), nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Who", who)
			if resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req); err == nil { // else it waited until the end
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	for range 20 {
		pull("a")
	}
	under := func(want int, who string) {
		t.Helper()
		for n := range want {
			select {
			case <-up.asked:
			case <-time.After(20 * time.Second):
				t.Fatalf("%s has %d layers under way, want %d", who, n, want)
			}
		}
		select {
		case <-up.asked:
			t.Fatalf("%s has more than %d layers under way", who, want)
		case <-time.After(100 * time.Millisecond):
		}
	}
	under(4, "a")
	pull("b")
	under(1, "b")
	wantStatus(t, s.get(manifestPath, "Who", "a"), http.StatusNotFound)
	if n := testutil.ToFloat64(s.metrics.waiting.WithLabelValues("layers")); n != 16 {
		t.Errorf("%v wait, want 16", n)
	}
	s.table.Close() // what is cut now is not continued for long
	close(up.end)
	s.server.CloseClientConnections()
	all.Wait()
}

// TestNoTurn is answered so that containerd asks again, and costs no registry a request.
func TestNoTurn(t *testing.T) {
	t.Parallel()
	up := newSlow(t)
	s := start(t, Config{Client: byHeader, Downloads: 1, Patience: 100 * time.Millisecond}, up.upstream)
	first := make(chan struct{})
	go func() {
		defer close(first)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+blobPath(someDigest), nil)
		if resp, err := (&http.Transport{}).RoundTrip(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}()
	<-up.asked
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+blobPath(someDigest), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	got := reply{status: resp.StatusCode}
	got.body, _ = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	wantStatus(t, got, http.StatusTooManyRequests)
	if resp.Header.Get("Retry-After") != "5" || !resp.Close {
		t.Errorf("the connection ends: %t, header %v", resp.Close, resp.Header)
	}
	if e := got.errors(t); e[0].Code != oci.CodeTooManyRequests || e[0].Message != "no turn in time" {
		t.Errorf("%+v", e)
	}
	if n := testutil.ToFloat64(s.metrics.refused.WithLabelValues("layers", "late")); n != 1 {
		t.Errorf("%v refused", n)
	}
	if len(up.asked) != 0 {
		t.Error("the registry was asked")
	}
	s.server.CloseClientConnections()
	<-first
	if log := s.logged(); !strings.Contains(log, `"status":429`) || !strings.Contains(log, `"err":"no turn in time"`) {
		t.Errorf("not in the log: %s", log)
	}
}

// TestTheAnswerComesInTime: waiting and asking together end before containerd gives up.
func TestTheAnswerComesInTime(t *testing.T) {
	t.Parallel()
	if all := patience + fetch.DefaultBudget; all > 28*time.Second {
		t.Errorf("up to %v, and containerd gives up after 30 s", all)
	}
}

// TestDownloads: as many as fit into half of what the process may have.
func TestDownloads(t *testing.T) {
	t.Parallel()
	for room, want := range map[int64]int{1 << 62: 1024, 819 << 20: 1024, 400 << 20: 800, 100 << 20: 200, 0: 16} {
		if got := Downloads(room); got != want {
			t.Errorf("of %d MiB: %d, want %d", room>>20, got, want)
		}
	}
}
