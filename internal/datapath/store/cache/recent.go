package cache

import (
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

const (
	// What is not there may be pushed a moment later: a tag is what people wait for.
	absentTag    = 5 * time.Second
	absentDigest = 30 * time.Second
	// distrusted is longer than the pause of kubelet between two tries.
	distrusted = 10 * time.Minute
	mostRecent = 10_000
)

// recent is what happened a moment ago, in memory.
type recent struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// keyOf is a pull from the upstreams of a route: what one repository, or one registry, does not
// have another one may.
func keyOf(p oci.Pull, r routes.Route) string {
	key := p.Host + "/" + p.Repository + "/" + string(p.Kind) + "/" + p.Reference
	for _, t := range r.Targets {
		key += " " + t.Place()
	}
	return key
}

func (a *recent) has(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, known := a.until[key]
	if known && !time.Now().Before(until) {
		delete(a.until, key)
		return false
	}
	return known
}

// note is that it did now. Of too many, all are forgotten.
func (a *recent) note(key string, lasts time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil || len(a.until) >= mostRecent {
		a.until = map[string]time.Time{}
	}
	a.until[key] = time.Now().Add(lasts)
}

// noteAbsent is that no upstream had it.
func (f *front) noteAbsent(p oci.Pull, r routes.Route) {
	lasts := absentTag
	if p.ByDigest() {
		lasts = absentDigest
	}
	f.absent.note(keyOf(p, r), lasts)
}
