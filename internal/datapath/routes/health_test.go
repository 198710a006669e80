package routes

import (
	"testing"
	"time"
)

func TestOnlyOneRequestProbes(t *testing.T) {
	t.Parallel()
	var h Health
	now := time.Unix(1000, 0)
	h.Failed(now, time.Second, false)
	if got := h.State(now); got != Unhealthy {
		t.Fatalf("after a failure: %v", got)
	}
	now = now.Add(time.Second)
	for range 2 { // looking at it is no probe
		if got := h.State(now); got != Probing {
			t.Fatalf("when the time has come: %v", got)
		}
	}
	if !h.Probe(now, time.Second) || h.Probe(now, time.Second) {
		t.Fatal("not one request probes")
	}
	if got := h.State(now); got != Unhealthy {
		t.Fatalf("while one probes: %v", got)
	}
	h.Failed(now, time.Second, false)
	if got := h.State(now.Add(time.Second)); got != Unhealthy {
		t.Fatalf("a second failure must be remembered for longer: %v", got)
	}
	h.Served(false)
	if got := h.State(now); got != Healthy {
		t.Fatalf("after an answer: %v", got)
	}
	h.Failed(now, time.Second, true)
	h.Served(false)
	if got := h.State(now); got != Unhealthy {
		t.Fatalf("a manifest after a layer that failed: %v", got)
	}
	h.Served(true)
	if got := h.State(now); got != Healthy {
		t.Fatalf("after a layer: %v", got)
	}
}

// TestManyThatFailAreOneFailure: what was under way when an upstream went away, and what asks it
// last meanwhile, does not keep it away for longer. Only probes do, and no longer than a minute, or
// ten seconds for a store.
func TestManyThatFailAreOneFailure(t *testing.T) {
	t.Parallel()
	stores := someStores(t)
	store, err := newStore(atStore(stores.Endpoints[0], stores.CA))
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		h    *Health
		away []time.Duration // in seconds
	}{
		"registry": {&Health{}, []time.Duration{10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60, 60}},
		"store":    {&store.Health, []time.Duration{1, 2, 4, 8, 10, 10, 10, 10, 10, 10, 10, 10}},
	} {
		h, now := row.h, time.Unix(1000, 0)
		for _, away := range row.away {
			for range 100 {
				h.Failed(now, 10*time.Second, false)
			}
			away *= time.Second
			if h.until != now.Add(away) {
				t.Fatalf("%s: asked last for %s, want %s", name, h.until.Sub(now), away)
			}
			now = now.Add(away)
			if !h.Probe(now, 10*time.Second) {
				t.Fatalf("%s: no probe after %s", name, away)
			}
		}
	}
}
