package space

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// SlowSync is what etcd warns of: its members take a leader that syncs as slowly for
	// one that is not well.
	SlowSync = 50 * time.Millisecond
	// SlowestPace is what is always allowed, in bytes a second: a store that writes nothing
	// helps nobody.
	SlowestPace = 10 << 20
	// probes is how many are judged together: a minute of them, of which the 99th percentile
	// is the slowest.
	probes = 12
	// burst is how much may be written at once, in bytes.
	burst = 1 << 20
	// One more window of quick probes raises the pace by a quarter.
	fasterBy, fasterOf = 5, 4
)

// Guard slows writes down while the disk is slow for an etcd on it. The zero value, and a
// nil one, lets all through at once.
type Guard struct {
	// Log is told when writes are held back, and why, and when they no longer are; nil is told nothing.
	Log *slog.Logger

	mu      sync.Mutex
	written int64         // since the last probe
	quick   int           // probes in a row that were
	fastest float64       // of all rates that were seen, bytes a second
	limiter *rate.Limiter // nil while there is no limit
	slow    int64         // how often it slowed down
}

// Run probes with each tick, which come every so often, until the context ends. probe writes
// 4 KiB to a file on the disk and syncs it; that it cannot counts as slow.
func (g *Guard) Run(ctx context.Context, every time.Duration, ticks <-chan time.Time, probe func() (time.Duration, error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		took, err := probe()
		if err != nil {
			took = 2 * SlowSync
		}
		g.judge(took, every, err)
	}
}

// judge goes by the slowest probe of a window; failed is why one was not measured. After a change it begins a new one: what was
// slow before says nothing about the new pace.
func (g *Guard) judge(took, every time.Duration, failed error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	rateNow := float64(g.written) / every.Seconds()
	g.written, g.fastest = 0, max(g.fastest, rateNow)
	if took > SlowSync {
		g.quick = 0
		g.slow++
		first := g.limiter == nil
		g.limit(max(rateNow/2, SlowestPace))
		if first && g.Log != nil {
			log := g.Log.With("sync", took)
			if failed != nil { // it was not measured
				log = g.Log.With("err", failed)
			}
			log.Warn("the disk is slow for the etcd on it, so less is written", "bytesPerSecond", int64(g.limiter.Limit()))
		}
		return
	}
	if g.quick++; g.quick < probes || g.limiter == nil {
		return
	}
	g.quick = 0
	next := float64(g.limiter.Limit()) * fasterBy / fasterOf
	if next > g.fastest {
		g.limiter = nil // faster than this it never was
		if g.Log != nil {
			g.Log.Info("the disk is quick enough for the etcd on it, and nothing is held back", "sync", took)
		}
		return
	}
	g.limit(next)
}

func (g *Guard) limit(pace float64) {
	if g.limiter == nil {
		g.limiter = rate.NewLimiter(rate.Limit(pace), burst)
		return
	}
	g.limiter.SetLimit(rate.Limit(pace))
}

// Pace waits until so many bytes may be written.
func (g *Guard) Pace(ctx context.Context, n int) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	g.written += int64(n)
	limiter := g.limiter
	g.mu.Unlock()
	for limiter != nil && n > 0 {
		part := min(n, burst)
		if err := limiter.WaitN(ctx, part); err != nil {
			return fmt.Errorf("wait for the disk that etcd is on: %w", err)
		}
		n -= part
	}
	return nil
}

// Limit is the pace of the moment in bytes a second, 0 for none, and how often it was lowered.
func (g *Guard) Limit() (pace float64, lowered int64) {
	if g == nil {
		return 0, 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limiter != nil {
		pace = float64(g.limiter.Limit())
	}
	return pace, g.slow
}
