package store

import (
	"fmt"
	"strings"
	"sync"

	"github.com/d8-registry/registry/internal/datapath/front"
	"github.com/d8-registry/registry/internal/datapath/oci"
)

// keyPins is the file of what is never evicted: a digest on each line. Without it there are
// none.
const keyPins = "pins"

// pins are the last good ones.
type pins struct {
	pin func(digests []string)

	mu      sync.Mutex
	seen    string
	problem error
}

// apply takes over what is good in the content. What is wrong changes nothing: what is not
// pinned any more may be lost.
func (p *pins) apply(c front.Content) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Err != nil {
		return // the front says so
	}
	if p.problem = c.Unread[keyPins]; p.problem != nil {
		return
	}
	text := string(c.Data[keyPins])
	if text == p.seen {
		return
	}
	digests := strings.Fields(text)
	for i, digest := range digests {
		if !oci.IsDigest(digest) {
			p.problem = fmt.Errorf("%s: entry %d is no digest; the last good ones stay", keyPins, i+1)
			return
		}
	}
	p.seen = text
	p.pin(digests)
}

func (p *pins) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}
