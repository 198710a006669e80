//go:build brokenprotocol

package store

import (
	"testing"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/store/cache"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestWithoutTheWayPast is the negative control of a disk that is full, or lost: a store that does not go on
// past itself fails all who read what comes.
func TestWithoutTheWayPast(t *testing.T) {
	t.Parallel()
	promises, err := Broken(cache.BrokenWayPast)
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

// TestWithoutResuming is the negative control of an owner that dies: where a body that breaks does not go on,
// neither what a store fetches nor what it gives out, all who read fail.
func TestWithoutResuming(t *testing.T) {
	t.Parallel()
	promises, err := Broken(fetch.BrokenResume)
	if err != nil {
		t.Fatal(err)
	}
	c := three(t)
	layer := c.stores[0].push("v1", 1, 1<<20).layers[0]
	order := c.of(layer.digest)
	c.registry.SetFaults(testregistry.Faults{Match: isOf(layer), Times: 1, StallAfter: layer.size / 2})
	fronttest.WriteFiles(t, order[0].cfg.ConfigDir, order[0].content)
	of := build(t, order[0])
	of.run()
	t.Cleanup(func() { of.kill() })
	order[1].cfg.Promises = promises
	c.launch(order[1])
	wait := order[1].pulls("v1")
	order[1].come()
	of.kill()
	if failed := wait(); failed != clients {
		t.Errorf("%d of %d pulls failed", failed, clients)
	}
}
