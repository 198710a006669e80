package store

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestALostDiskIsNotFetchedAgain: the owner of a layer has an empty disk, or was gone when it was pulled.
// Nodes that ask it, and nodes that ask one that asks it, have it from the store that has it, and the
// registry sends nothing more.
func TestALostDiskIsNotFetchedAgain(t *testing.T) {
	t.Parallel()
	for _, asked := range []int{0, 2} {
		t.Run(fmt.Sprintf("store %d is asked", asked), func(t *testing.T) {
			t.Parallel()
			c := three(t)
			layer := c.stores[0].push("v1", 1, 1<<20).layers[0]
			order, path := c.of(layer.digest), tool+"/blobs/"+layer.digest
			c.launch(c.stores...)
			if _, err := order[0].client(1).get(t.Context(), path, ""); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the second has it", func() bool { _, err := os.Stat(order[1].file(layer)); return err == nil })
			order[0].loseDisk()
			if data, err := order[asked].client(1).get(t.Context(), path, ""); err != nil || sum(data) != layer.hex() {
				t.Errorf("%d bytes, %v", len(data), err)
			}
			if sent, n := c.sent(layer.digest); sent != layer.size {
				t.Errorf("%d bytes of %d in %d requests", sent, layer.size, n)
			}
		})
	}
}

// loseDisk ends a store and launches it with nothing.
func (p *process) loseDisk() {
	p.t.Helper()
	p.end(p.stop, p.ended)
	if err := os.RemoveAll(filepath.Join(p.cfg.Data, "blobs")); err != nil {
		p.t.Fatal(err)
	}
	p.launch()
	p.becomesReady()
}

// TestAnOwnerIsBackInMidFill: while the owner is gone the second store has a part of a layer from the
// registry, at a node's wish. When it has the rest brought the owner is back, with nothing: if it were
// asked now it would have the registry send all of it.
func TestAnOwnerIsBackInMidFill(t *testing.T) {
	t.Parallel()
	c := three(t)
	layer := c.stores[0].push("v1", 1, 1<<20).layers[0]
	order := c.of(layer.digest)
	c.launch(order[1])
	asked, back := make(chan struct{}), make(chan struct{})
	isLayer := isOf(layer)
	c.registry.SetFaults(testregistry.Faults{Times: 1, Header: http.Header{"X-Late": {"1"}}, Match: func(r *http.Request) bool {
		if !isLayer(r) {
			return false
		}
		close(asked)
		<-back
		return true
	}})
	var err error
	pulled := make(chan struct{})
	client := order[1].client(1)
	go func() {
		defer close(pulled)
		_, err = client.get(t.Context(), tool+"/blobs/"+layer.digest, "bytes=600000-")
	}()
	<-asked
	fronttest.WriteFiles(t, order[0].cfg.ConfigDir, order[0].content)
	order[0].launch()
	order[0].becomesReady()
	<-time.After(1200 * time.Millisecond) // a store that did not answer is passed by for a second
	close(back)
	if <-pulled; err != nil {
		t.Fatal(err)
	}
	eventually(t, "all of it is here", func() bool { _, err := os.Stat(order[1].file(layer)); return err == nil })
	if sent, n := c.sent(layer.digest); sent != layer.size {
		t.Errorf("%d bytes of %d in %d requests", sent, layer.size, n)
	}
}
