//go:build brokenprotocol

package store

import (
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/cache"
)

// TestWithoutTheWayPast is the negative control of a disk that is full, or lost: a store that does not go on
// past itself fails all who read what comes.
func TestWithoutTheWayPast(t *testing.T) {
	t.Parallel()
	promises, err := cache.Broken(cache.BrokenWayPast)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the disk is full", func(t *testing.T) {
		t.Parallel()
		if failed := diskIsFull(t, promises); failed != clients {
			t.Errorf("%d of %d pulls failed", failed, clients)
		}
	})
	for name, l := range losses() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _, failed := l.lost(t, promises)
			if failed != clients {
				t.Errorf("%d of %d pulls failed", failed, clients)
			}
			l.back(t, p.cfg.Data)
			eventually(t, "it is well", func() bool { return p.status().Problem == "" })
		})
	}
}
