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
	if got := h.Ask(now, time.Second); got != Unhealthy {
		t.Fatalf("after a failure: %v", got)
	}
	now = now.Add(time.Second)
	if got := h.Ask(now, time.Second); got != Probing {
		t.Fatalf("when the time has come: %v", got)
	}
	if got := h.Ask(now, time.Second); got != Unhealthy {
		t.Fatalf("while one probes: %v", got)
	}
	h.Failed(now, time.Second, false)
	if got := h.Ask(now.Add(time.Second), time.Second); got != Unhealthy {
		t.Fatalf("a second failure must be remembered for longer: %v", got)
	}
	h.Served(false)
	if got := h.Ask(now, time.Second); got != Healthy {
		t.Fatalf("after an answer: %v", got)
	}
	h.Failed(now, time.Second, true)
	h.Served(false)
	if got := h.Ask(now, time.Second); got != Unhealthy {
		t.Fatalf("a manifest after a layer that failed: %v", got)
	}
	h.Served(true)
	if got := h.Ask(now, time.Second); got != Healthy {
		t.Fatalf("after a layer: %v", got)
	}
	for range 100 {
		h.Failed(now, time.Second, false)
	}
	if h.until.After(now.Add(maxProbe)) {
		t.Fatalf("remembered for %s", h.until.Sub(now))
	}
}
