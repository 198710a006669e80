package routes

import (
	"sync"
	"time"
)

// maxProbe is what repeated failures lengthen the time to that an upstream is asked last.
const maxProbe = time.Minute

// A store is asked last for less: from storeProbe on, up to mostStoreProbe. One that is started anew
// serves within a second, and as long as it is passed by a registry is asked for what it has.
const (
	storeProbe     = time.Second
	mostStoreProbe = 10 * time.Second
)

// Health remembers that an upstream did not answer in time, so that the next
// requests need not wait for it again.
type Health struct {
	ofStore bool

	mu      sync.Mutex
	fails   int
	probing bool      // a request finds out how it is
	layer   bool      // a layer is among what failed
	until   time.Time // tried last until then; zero when nothing is wrong
}

// State is how one request is to treat an upstream.
type State int

// How an upstream is asked.
const (
	Healthy   State = iota // asked in its turn
	Probing                // asked in its turn, with a short limit
	Unhealthy              // asked last
)

// State is the health of the moment. It is Probing when a probe is due: whoever makes it says so,
// see Probe.
func (h *Health) State(now time.Time) State {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.fails == 0:
		return Healthy
	case now.Before(h.until):
		return Unhealthy
	}
	return Probing
}

// Probe is said by a request that is about to ask one for which a probe is due. One request makes
// it; for the others, which get false, it is to be asked last until that one is through.
func (h *Health) Probe(now time.Time, probe time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.fails == 0:
		return true
	case now.Before(h.until):
		return false
	}
	h.until, h.probing = now.Add(probe), true
	return true
}

// Failed notes that a request lost time. layer says that it was for a layer. Many fail at once
// when an upstream goes away: the first of them, and then each probe, says for how long it is
// asked last. What fails meanwhile says nothing new.
func (h *Health) Failed(now time.Time, probe time.Duration, layer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.layer = h.layer || layer
	if h.fails > 0 && !h.probing {
		return
	}
	h.fails, h.probing = min(h.fails+1, 10), false
	probe, most := h.times(probe)
	h.until = now.Add(min(probe<<(h.fails-1), max(probe, most)))
}

// times are how long it is asked last after its first failure, and at most.
func (h *Health) times(probe time.Duration) (first, most time.Duration) {
	if h.ofStore {
		return min(probe, storeProbe), mostStoreProbe
	}
	return probe, maxProbe
}

// Served notes a good answer. After a layer has failed only a layer counts: a
// manifest says nothing about the machine that layers come from.
func (h *Health) Served(layer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if layer || !h.layer {
		h.fails, h.layer, h.probing = 0, false, false
	}
}
