package cache

import (
	"context"
	"sync"
)

// flights are what is asked for at the moment, once for all who want the same.
type flights struct {
	mu     sync.Mutex
	flying map[string]*flight
	closed bool
	all    sync.WaitGroup
}

type flight struct {
	landed chan struct{}
	answer *answer
}

// join is the flight of a key, which do flies if there is none. It ends with no client.
func (f *flights) join(key string, do func() *answer) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.flying[key]; known != nil {
		return known
	}
	one := &flight{landed: make(chan struct{})}
	if f.closed {
		one.answer = &answer{err: context.Canceled}
		close(one.landed)
		return one
	}
	if f.flying == nil {
		f.flying = map[string]*flight{}
	}
	f.flying[key] = one
	f.all.Go(func() {
		one.answer = do()
		f.mu.Lock()
		delete(f.flying, key)
		f.mu.Unlock()
		close(one.landed)
	})
	return one
}

// behind has something done for which nobody waits, but close.
func (f *flights) behind(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.all.Go(do)
	}
}

// close waits until all have landed.
func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.all.Wait()
}

// wait is the answer, or an error if the client leaves before.
func (f *flight) wait(ctx context.Context) *answer {
	select {
	case <-f.landed:
		return f.answer
	case <-ctx.Done():
		return &answer{err: context.Cause(ctx)}
	}
}
