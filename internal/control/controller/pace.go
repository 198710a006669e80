package controller

import (
	"context"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// longestRest is how long events are gathered at most: thousands of reports that
	// come at once take about three passes a second.
	longestRest = 300 * time.Millisecond
	// burst is from how many events on they are gathered for that long.
	burst = 50
)

// pace gathers events into passes. The first event makes a pass at once. After a pass
// there is a rest as long as the pass was, longestRest at most, and what comes meanwhile
// makes one pass.
type pace struct {
	passes  reconcile.Reconciler
	events  atomic.Int64  // since the last pass began
	hurries chan struct{} // somebody waits
}

func newPace(passes reconcile.Reconciler) *pace {
	return &pace{passes: passes, hurries: make(chan struct{}, 1)}
}

// Reconcile is a pass and the rest after it.
func (p *pace) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	begun := time.Now()
	p.begin()
	result, err := p.passes.Reconcile(ctx, request)
	p.rest(ctx, time.Since(begun))
	return result, err //nolint:wrapcheck // it is only put off
}

// event counts an event.
func (p *pace) event() { p.events.Add(1) }

// hurry ends the rest: a user has asked for something.
func (p *pace) hurry() {
	select {
	case p.hurries <- struct{}{}:
	default:
	}
}

// begin begins a pass.
func (p *pace) begin() {
	p.events.Store(0)
	select {
	case <-p.hurries: // this pass sees it
	default:
	}
}

// rest is the rest after a pass that took so long.
func (p *pace) rest(ctx context.Context, took time.Duration) {
	rest := min(took, longestRest)
	if p.events.Load() >= burst {
		rest = longestRest
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.hurries:
	case <-ctx.Done():
	}
}
