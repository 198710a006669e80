package conformance

import (
	"slices"
	"testing"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/fronts"
	"github.com/d8-registry/registry/test/harness/parts"
)

// TestAStoreReadsAsItsRegistry: what a registry passes as a read-only one it passes in mode
// Proxy, through an agent and at a store, as a node and a client of the Service ask it: when it is
// asked for the first time, and when all is there. What it fails fails there too, but for what is
// mended.
func TestAStoreReadsAsItsRegistry(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	program := fronts.StoreProgram(t)
	for _, r := range registries() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			running := r.start(t)
			u := running.Upstream("team")
			data := pushed(t, running)
			alone := findings{}
			alone.suite(t, append(data, through(t, u, nil)...)...)
			for name, way := range inFront() {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					stores := fronts.NewStores(t, program, 2, u)
					stores.Run()
					env := append(data, way(t, u, stores)...)
					for _, round := range []string{"empty", "full"} {
						before := kept(t, stores)
						found := findings{}
						found.suite(t, env...)
						alike(t, round, alone, found, r.mended)
						if got := kept(t, stores) - before; got == 0 {
							t.Errorf("%s stores: nothing was served from one", round)
						}
					}
				})
			}
		})
	}
}

// inFront are the ways in which stores are asked: what the suite must know of each.
func inFront() map[string]func(*testing.T, upstream.Upstream, *fronts.Stores) []string {
	return map[string]func(*testing.T, upstream.Upstream, *fronts.Stores) []string{
		"agent": func(t *testing.T, u upstream.Upstream, stores *fronts.Stores) []string {
			t.Helper()
			return through(t, u, fronts.AgentOf(t, server.Start(t), "node", stores.Layout(u)))
		},
		"node at a store": func(t *testing.T, _ upstream.Upstream, stores *fronts.Stores) []string {
			t.Helper()
			return itself(t, stores.Of("node")[0].Node())
		},
		"client of the Service": func(t *testing.T, _ upstream.Upstream, stores *fronts.Stores) []string {
			t.Helper()
			return itself(t, stores.Of("node")[1].Client())
		},
	}
}

// kept is how many pulls stores have answered with what they had.
func kept(t *testing.T, stores *fronts.Stores) (answers float64) {
	t.Helper()
	for _, s := range stores.All {
		answers += fronts.Counted(t, s.Metrics, "registry_store_answers_total", `found="hit"`)
	}
	return answers
}

// alike compares what was found at stores with what was found at the registry alone.
func alike(t *testing.T, round string, alone, found findings, mended []string) {
	t.Helper()
	passes := 0
	for name, f := range alone {
		want := f.outcome
		if slices.Contains(mended, name) {
			want = passed
		}
		if want == passed {
			passes++
		}
		if got := found[name]; got.outcome != want {
			t.Errorf("%s stores: %s: %s, want %s: %s", round, name, got.outcome, want, got.why)
		}
	}
	if passes < 10 || len(found) != len(alone) {
		t.Errorf("%s stores: %d tests of %d pass, of %d without stores", round, passes, len(found), len(alone))
	}
}
