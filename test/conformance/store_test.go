package conformance

import (
	"net/http/httptest"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/cache"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/fronts"
	"github.com/d8-registry/registry/test/harness/parts"
)

// TestAStoreReadsAsItsRegistry: what a registry passes as a read-only one it passes through a
// store, when it is asked for the first time and when all is there.
func TestAStoreReadsAsItsRegistry(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	for _, r := range registries() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			running := r.start(t)
			u := running.Upstream("team")
			data := pushed(t, running)
			alone := findings{}
			alone.suite(t, append(data, through(t, u, nil)...)...)
			address := stored(t, u)
			for _, round := range []string{"empty", "full"} {
				found, passes := findings{}, 0
				found.suite(t, append(data, "OCI_TLS=disabled", "OCI_REGISTRY="+address)...)
				for name, f := range alone {
					if f.outcome != passed {
						continue
					}
					if passes++; found[name].outcome != passed {
						t.Errorf("%s store: %s: %s", round, name, found[name].why)
					}
				}
				if passes < 10 {
					t.Errorf("only %d tests pass without a store", passes)
				}
			}
		})
	}
}

// stored is the address of a data path with a store.
func stored(t *testing.T, u upstream.Upstream) (address string) {
	t.Helper()
	folder, err := disk.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c, err := cache.Open(t.Context(), cache.Config{FS: folder, Boot: "this one", Quota: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	if err := table.Swap(fronts.Layout(u)); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(proxy.New(table, proxy.Config{Cache: c.Transport, DefaultHost: layout.Fixed().Host}))
	t.Cleanup(func() {
		server.Close()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.Listener.Addr().String()
}
