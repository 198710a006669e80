package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/answer"
	"github.com/d8-registry/registry/internal/datapath/fetch"
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
	rec := &record{
		status: statusClientGone, exchange: fetch.Exchange{Pull: oci.Pull{Kind: oci.KindManifests}}, fetched: fetch.Record{Err: io.EOF},
	}
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
		"one upstream":        {1, 2 * answer.SmallBlob, answer.SmallBlob},
		"two":                 {2, 2 * answer.SmallBlob, answer.SmallBlob},
		"one, little":         {1, 200, 100},
		"one, without length": {1, -1, answer.SmallBlob},
		"two, without length": {2, -1, answer.SmallBlob - 1},
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
	half := strings.Repeat("x", answer.SmallBlob)
	if length >= 0 {
		half = half[:length/2]
	}
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

// TestTheHeaderIsSent: a client has its header in time also where the body comes later.
func TestTheHeaderIsSent(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	body := strings.Repeat("x", 2*answer.SmallBlob)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Header().Set("Content-Type", "application/octet-stream") // what may be a page is looked at before
		_ = http.NewResponseController(w).Flush()
		select {
		case <-arrived:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(up.Close)
	s := start(t, Config{}, upstream.Upstream{Host: up.Listener.Addr().String(), Scheme: upstream.HTTP, Path: "x"})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+blobPath(judge.DigestLike("", []byte(body))), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{ResponseHeaderTimeout: 5 * time.Second}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	close(arrived)
	if n, err := io.Copy(io.Discard, resp.Body); n != int64(len(body)) || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}
