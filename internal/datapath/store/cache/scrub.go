package cache

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

const (
	// scrubPace is how fast blobs are read again, in bytes a second: no disk is slower for it.
	scrubPace  = 8 << 20
	scrubBurst = 1 << 20
	// After a start others need the disk; after all were read again there is time.
	scrubFirst, scrubAgain = 10 * time.Minute, 24 * time.Hour
)

// scrub reads what is kept again and again, until the context ends: what the disk has changed
// would be served for good, since nobody hashes what is whole.
func (c *Cache) scrub(ctx context.Context) {
	limit := rate.NewLimiter(scrubPace, scrubBurst)
	for wait := scrubFirst; !c.cfg.noScrub; wait = scrubAgain {
		select {
		case <-time.After(wait):
			c.scrubAll(ctx, limit.WaitN)
		case <-ctx.Done():
			return
		}
	}
}

// scrubAll reads each blob once, and has those go that are damaged.
func (c *Cache) scrubAll(ctx context.Context, pace func(ctx context.Context, n int) error) {
	for _, b := range c.blobs.Blobs() {
		if ctx.Err() != nil {
			return
		}
		err := c.blobs.Scrub(ctx, b.Digest, pace)
		if errors.Is(err, blob.ErrDigest) || errors.Is(err, blob.ErrDamaged) { // it is logged, and taken out
			c.cfg.Metrics.corrupt.Inc()
			c.gone(b.Digest)
		}
	}
}
