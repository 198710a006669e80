//go:build brokenprotocol

package proxy

import (
	"net/http"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestWithoutFallingThrough is the negative control of stores: an agent that gives its client what the first
// store says fails pulls that the next store, and the registry, would have served.
func TestWithoutFallingThrough(t *testing.T) {
	t.Parallel()
	promises, err := fetch.Broken(fetch.BrokenFallThrough)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		promises fetch.Promises
		want     int
	}{
		"as it ships":  {fetch.Promises{}, http.StatusOK},
		"the first is": {promises, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := behindStores(t, Config{Budget: 4 * time.Second, Promises: tc.promises}, "node")
			f.store.SetFaults(testregistry.Faults{Status: http.StatusInternalServerError})
			for range 10 { // also when it is known to fail
				wantStatus(t, f.get(manifestPath), tc.want)
				wantStatus(t, f.get(blobPath(f.digest)), tc.want)
			}
			if n := asked(f.upstream); (n == 0) == (tc.want == http.StatusOK) {
				t.Errorf("the registry was asked %d times", n)
			}
			// Without stores there is nothing to be the end.
			if err := f.table.Swap(layout.Layout{Schema: layout.Schema, Generation: 2, Routes: []layout.Route{
				{Name: layout.Fixed(), Upstreams: []upstream.Upstream{f.upstream.Upstream("team/a")}},
			}}); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, f.get(manifestPath), http.StatusOK)
		})
	}
}
