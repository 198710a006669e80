package cache

import (
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
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

// absentKey is of a repository: a digest may be in another one.
func absentKey(p oci.Pull) string {
	if p.Kind != oci.KindBlobs && p.Kind != oci.KindManifests {
		return ""
	}
	return p.Host + "/" + p.Repository + "/" + string(p.Kind) + "/" + p.Reference
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
func (f *front) noteAbsent(p oci.Pull) {
	lasts := absentTag
	if p.ByDigest() {
		lasts = absentDigest
	}
	f.absent.note(absentKey(p), lasts)
}
