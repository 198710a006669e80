package routes

import (
	"sync"
	"time"
)

// Recent is what happened a while ago, by a key, in memory. Its zero value is: nothing did.
type Recent struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// Note is that it did now, and for how long that counts. Of as many as most all are forgotten.
func (r *Recent) Note(now time.Time, key string, lasts time.Duration, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil || len(r.until) >= most {
		r.until = map[string]time.Time{}
	}
	r.until[key] = now.Add(lasts)
}

// Has reports whether it did.
func (r *Recent) Has(now time.Time, key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, known := r.until[key]
	if known && !now.Before(until) {
		delete(r.until, key)
		return false
	}
	return known
}
