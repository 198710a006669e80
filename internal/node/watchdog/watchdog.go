package watchdog

import (
	"fmt"
	"sync"
	"time"
)

// Limit is more than any step takes that goes on: a restart of containerd with all
// its checks, or a file system that is slow. A step that takes longer has hung.
const Limit = 15 * time.Minute

// Watchdog knows which steps are under way.
type Watchdog struct {
	now func() time.Time

	mu    sync.Mutex
	steps map[*step]bool
}

type step struct {
	what  string
	since time.Time
}

// New makes a Watchdog. now is for tests; nil is the clock.
func New(now func() time.Time) *Watchdog {
	if now == nil {
		now = time.Now
	}
	return &Watchdog{now: now, steps: map[*step]bool{}}
}

// Do does a step of a loop.
func (w *Watchdog) Do(what string, do func()) {
	s := &step{what: what, since: w.now()}
	w.set(s, true)
	defer w.set(s, false)
	do()
}

func (w *Watchdog) set(s *step, under bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if under {
		w.steps[s] = true
	} else {
		delete(w.steps, s)
	}
}

// Err says which step has hung; nil if none has.
func (w *Watchdog) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.steps {
		if took := w.now().Sub(s.since); took > Limit {
			return fmt.Errorf("%s has hung for %v", s.what, took.Round(time.Second))
		}
	}
	return nil
}
