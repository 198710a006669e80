package routes

import (
	"sync"
	"time"
)

// maxProbe is what repeated failures lengthen the time to that an upstream is asked last.
const maxProbe = time.Minute

// Health remembers that an upstream did not answer in time, so that the next
// requests need not wait for it again.
type Health struct {
	mu    sync.Mutex
	fails int
	layer bool      // a layer is among what failed
	until time.Time // tried last until then; zero when nothing is wrong
}

// State is how one request is to treat an upstream.
type State int

// How an upstream is asked.
const (
	Healthy   State = iota // asked in its turn
	Probing                // asked in its turn, with a short limit
	Unhealthy              // asked last
)

// Ask is the health of the moment. When a probe is due, one request makes it; the
// others go on asking the upstream last until that one is through.
func (h *Health) Ask(now time.Time, probe time.Duration) State {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.fails == 0:
		return Healthy
	case now.Before(h.until):
		return Unhealthy
	}
	h.until = now.Add(probe)
	return Probing
}

// Failed notes that a request lost time. layer says that it was for a layer.
func (h *Health) Failed(now time.Time, probe time.Duration, layer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails = min(h.fails+1, 10)
	h.layer = h.layer || layer
	h.until = now.Add(min(probe<<(h.fails-1), max(probe, maxProbe)))
}

// Served notes a good answer. After a layer has failed only a layer counts: a
// manifest says nothing about the machine that layers come from.
func (h *Health) Served(layer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if layer || !h.layer {
		h.fails, h.layer = 0, false
	}
}
