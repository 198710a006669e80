package agent

import (
	"context"
	"time"
)

// Pauses between two passes that do not come to their end: soon at first, later
// when that goes on.
const (
	soon  = time.Second
	later = 30 * time.Second
)

// loop makes passes: whenever something changed, and when the last pass asked to
// be repeated.
type loop struct {
	wake     chan struct{}
	interval time.Duration // how often what was proved is proved again
	now      func() time.Time

	generation int64     // of the last pass
	failing    time.Time // since when passes do not come to their end
}

// outcome is how a pass ended.
type outcome struct {
	generation int64 // of the layout that it worked for
	stopped    bool  // the agent ends
	again      bool  // the next pass is to follow at once
	retry      bool  // the pass did not come to its end
	problems   bool  // it did, and reported problems
}

func newLoop(interval time.Duration) *loop {
	return &loop{wake: make(chan struct{}, 1), interval: interval, now: time.Now}
}

// wakeUp asks for a pass. Several calls before it begins are one.
func (l *loop) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run makes passes until the context ends or ended returns an error.
func (l *loop) run(ctx context.Context, pass func(context.Context) outcome, ended func() error) error {
	for {
		if err := ended(); err != nil {
			return err
		}
		next := time.After(l.pause(pass(ctx)))
		select {
		case <-l.wake:
		case <-next:
		case <-ctx.Done():
			return nil
		}
	}
}

// pause is the time until the next pass, if nothing wakes the loop before. While
// passes fail it grows; a new layout begins anew.
func (l *loop) pause(o outcome) time.Duration {
	if o.generation != l.generation {
		l.generation, l.failing = o.generation, time.Time{}
	}
	switch {
	case o.stopped:
		return later
	case o.again:
		return 0
	case o.retry:
		if l.failing.IsZero() {
			l.failing = l.now()
		}
		return max(soon, min(l.now().Sub(l.failing)/2, later))
	}
	l.failing = time.Time{}
	if o.problems {
		return later
	}
	return l.interval / 2
}
