package proxy

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// An answer in time is owed even if nobody answers us: containerd 1.6 would
// wait for ever.
func TestAnswersInTimeWhenAllAreSilent(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]testregistry.Faults{
		"accept":        {HangOnAccept: true},
		"header":        {Hang: true},
		"token":         {Hang: true, Match: func(r *http.Request) bool { return r.URL.Path == "/token" }},
		"blob redirect": {Hang: true, Match: func(r *http.Request) bool { return r.URL.RawQuery == "signature=secret" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, img := pair(t, testregistry.Options{TLS: true, Bearer: true, RedirectBlobs: "localhost"})
			s := start(t, Config{Budget: 2 * time.Second}, a.Upstream("team/a"), b.Upstream("team/b"))
			a.SetFaults(faults)
			b.SetFaults(faults)
			digest, _ := blob(t, img)
			got := s.get(blobPath(digest))
			wantStatus(t, got, http.StatusServiceUnavailable)
			if got.took > 4*time.Second {
				t.Errorf("took %s, budget 2 s", got.took)
			}
			if m := got.errors(t)[0].Message; strings.Contains(m, "signature") {
				t.Errorf("a signed URL in the message: %s", m)
			}
		})
	}
}

func TestDeadFirstUpstreamIsRemembered(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t, testregistry.Options{})
	s := start(t, Config{Budget: 6 * time.Second, Probe: time.Hour}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.SetFaults(testregistry.Faults{HangOnAccept: true})
	if got := s.get(manifestPath); got.status != 200 || got.took < 3*time.Second {
		t.Fatalf("first: %d after %s, want 200 after half the budget", got.status, got.took)
	}
	for range 3 {
		if got := s.get(manifestPath); got.status != 200 || got.took > 2*time.Second {
			t.Fatalf("later: %d after %s, want 200 at once", got.status, got.took)
		}
	}
	// What is remembered outlives a new layout, as long as the upstream does.
	s.swap(2, a.Upstream("team/a"), b.Upstream("team/b"))
	if got := s.get(manifestPath); got.took > 2*time.Second {
		t.Fatalf("after a swap: %s", got.took)
	}
	// The second dies: the first is asked although it is distrusted.
	a.SetFaults(testregistry.Faults{})
	b.Stop()
	wantStatus(t, s.get(manifestPath), http.StatusOK)
}

// When the time has come one request probes, for a short while, and the others
// do not pay.
func TestProbeOfAHealedUpstream(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t, testregistry.Options{})
	s := start(t, Config{Budget: 8 * time.Second, Probe: 300 * time.Millisecond}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.Stop()
	wantStatus(t, s.get(manifestPath), http.StatusOK)
	a.Start(t)
	deadline := time.Now().Add(30 * time.Second)
	for len(a.Requests()) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the healed upstream is never asked again")
		}
		wantStatus(t, s.get(manifestPath), http.StatusOK)
	}
	before := len(b.Requests())
	wantStatus(t, s.get(manifestPath), http.StatusOK)
	if len(b.Requests()) != before {
		t.Error("the second is still preferred")
	}
}

// Who probes an upstream that is still dead pays a little, not its whole share.
func TestProbeOfADeadUpstreamIsShort(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t, testregistry.Options{})
	s := start(t, Config{Budget: 8 * time.Second, Probe: 1}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.SetFaults(testregistry.Faults{Hang: true})
	wantStatus(t, s.get(manifestPath), http.StatusOK)
	if got := s.get(manifestPath); got.status != http.StatusOK || got.took < time.Second || got.took > 3*time.Second {
		t.Errorf("%d after %s, want about 1 s", got.status, got.took)
	}
}

// A client that leaves is not the upstream's fault.
func TestClientThatLeavesBlamesNobody(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t, testregistry.Options{})
	s := start(t, Config{Probe: time.Hour}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.SetFaults(testregistry.Faults{Hang: true, Times: 1})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+manifestPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for len(a.Requests()) == 0 {
			<-time.After(time.Millisecond)
		}
		leave()
	}()
	if resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Fatal("want an error")
	}
	wantStatus(t, s.get(manifestPath), http.StatusOK)
	if n := len(b.Requests()); n != 0 {
		t.Errorf("the second registry got %d requests", n)
	}
}

// Many clients at once, one upstream dead, one that cuts bodies off: everybody is served.
func TestManyClientsDuringAnOutage(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{TLS: true, Bearer: true, Username: "u", Password: "p"})
	s := start(t, Config{Budget: 12 * time.Second}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.SetFaults(testregistry.Faults{Hang: true, Times: 10})
	b.SetFaults(testregistry.Faults{CutAfter: 100_000, Times: 5, Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }})
	digest, content := blob(t, img)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if got := s.get(blobPath(digest)); got.status != 200 || got.err != nil || len(got.body) != len(content) {
				t.Errorf("%d, %d bytes, %v", got.status, len(got.body), got.err)
			}
		})
	}
	wg.Wait()
}

func TestSlowRegistryIsWaitedFor(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	a.SetFaults(testregistry.Faults{Latency: 700 * time.Millisecond})
	wantStatus(t, s.get(manifestPath), http.StatusOK)
}

func TestDeadUpstreamOfNobodyElse(t *testing.T) {
	t.Parallel()
	s := start(t, Config{}, upstream.Upstream{Host: "127.0.0.1:1", Scheme: upstream.HTTPS, Path: "x"})
	got := s.get(manifestPath)
	wantStatus(t, got, http.StatusServiceUnavailable)
	if m := got.errors(t)[0].Message; !strings.Contains(m, "127.0.0.1:1: dial tcp") {
		t.Errorf("message %q", m)
	}
}
