package cache

import (
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
	// mostRecent bounds what is remembered, of each kind.
	mostRecent = 10_000
)

// keyOf is a pull from the upstreams of a route: what one repository, or one registry, does not
// have another one may.
func keyOf(p oci.Pull, r routes.Route) string {
	key := p.Host + "/" + p.Repository + "/" + string(p.Kind) + "/" + p.Reference
	for _, t := range r.Targets {
		key += " " + t.Place()
	}
	return key
}

// noteAbsent is that no upstream had it.
func (f *front) noteAbsent(p oci.Pull, r routes.Route) {
	lasts := absentTag
	if p.ByDigest() {
		lasts = absentDigest
	}
	f.absent.Note(time.Now(), keyOf(p, r), lasts, mostRecent)
}
