package routes

import (
	"sync"
	"time"
)

// Corrupt remembers for which digests an upstream gave other bytes.
type Corrupt struct {
	mu    sync.Mutex
	until map[string]time.Time
}

const (
	// corruptFor is longer than the pause of kubelet between two tries.
	corruptFor = 10 * time.Minute
	// mostCorrupt bounds what is remembered of one upstream.
	mostCorrupt = 256
)

// Note is that an upstream gave other bytes than this digest says.
func (c *Corrupt) Note(now time.Time, digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until == nil || len(c.until) >= mostCorrupt {
		c.until = map[string]time.Time{}
	}
	c.until[digest] = now.Add(corruptFor)
}

// Has reports whether it did so a while ago.
func (c *Corrupt) Has(now time.Time, digest string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, known := c.until[digest]
	if known && !now.Before(until) {
		delete(c.until, digest)
	}
	return known && now.Before(until)
}
