package stores

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/fronts"
	"github.com/d8-registry/registry/test/harness/parts"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// both are an agent on a node of that name and an in-cluster proxy.
func (w *world) both(l layout.Layout) map[string]*client {
	return map[string]*client{
		"agent": clientOf(w.t, fronts.AgentOf(w.t, w.api, "node", l)),
		"proxy": clientOf(w.t, fronts.ProxyOf(w.t, w.api, l)),
	}
}

// TestTwentyNodesFetchOnce: twenty nodes and the in-cluster proxy want one image, all at once, and
// the registry sends each of its bytes once; on a busy machine once to a store: one that gives no sign of
// life for two seconds is passed by. Then it is gone, and a node that has nothing has all. Without stores
// in the layout each fetches for itself.
func TestTwentyNodesFetchOnce(t *testing.T) {
	parts.Need(t)
	for name, times := range map[string]int64{"with stores": 1, "without": 21} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l := w.layout()
			if name == "without" {
				l.Stores = layout.Stores{}
			} else {
				w.Run()
			}
			most := max(times, int64(len(w.All)))
			img := w.push("v1", 3, 4<<20)
			clients := []*client{clientOf(t, fronts.ProxyOf(t, w.api, l))}
			for i := range 20 {
				clients = append(clients, clientOf(t, fronts.AgentOf(t, w.api, fmt.Sprintf("node-%d", i), l)))
			}
			if n := together(t, "v1", clients...); n > 0 {
				t.Errorf("%d pulls failed", n)
			}
			for _, layer := range img.Layers {
				sent, requests := w.sent(layer.Digest.String())
				t.Logf("%d bytes of %d in %d requests", sent, layer.Size, requests)
				if sent < times*layer.Size || sent > most*layer.Size || int64(requests) > 4*most {
					t.Errorf("%d bytes of %d in %d requests", sent, layer.Size, requests)
				}
			}
			if name == "without" {
				return
			}
			w.registry.Stop()
			fresh := clientOf(t, fronts.AgentOf(t, w.api, "fresh", l))
			if err := fresh.pull(t.Context(), "v1"); err != nil {
				t.Errorf("a new node without the registry: %v", err)
			}
		})
	}
}

// TestAStoreDiesInMidBody: kill -9 of the store that is asked, when a part of a layer is at the
// client. Then the next one dies too, and the last. Nobody notices, as long as there is a registry
// behind them; where stores are the only way, the end of the last one is the end of the pull.
func TestAStoreDiesInMidBody(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	const size = 48 << 20
	for name, only := range map[string]bool{"a registry behind": false, "stores alone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Run()
			w.push("v1", 1, size)
			l := w.layout()
			if only {
				l = w.layout(nowhere(t))
			}
			for kind, c := range w.both(l) {
				if err := c.pull(t.Context(), "v1"); err != nil {
					t.Fatalf("%s, all stores there: %v", kind, err)
				}
			}
			var read atomic.Int64
			var deaths [3]sync.Once
			agent := w.both(l)["agent"]
			agent.pace = func(n int64) {
				at := read.Add(n)
				for i, s := range w.Of("node") { // each at its quarter
					if at > int64(i+1)*size/4 {
						deaths[i].Do(s.Kill)
					}
				}
			}
			err := agent.pull(t.Context(), "v1")
			t.Logf("%d bytes: %v", read.Load(), err)
			if (err != nil) != only {
				t.Errorf("with all stores dead in mid-body: %v", err)
			}
			for kind, c := range w.both(l) { // and so are the next ones
				begun := time.Now()
				err := c.pull(t.Context(), "v1")
				if (err != nil) != only {
					t.Errorf("%s, all stores gone: %v", kind, err)
				}
				t.Logf("%s, all stores gone: %s", kind, time.Since(begun))
			}
		})
	}
}

// TestAStoreComesAndGoes: twenty rounds of pulls through an agent and a proxy while stores die and
// come back, one after the other. No pull fails.
func TestAStoreComesAndGoes(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	w := newWorld(t)
	w.Run()
	both := w.both(w.layout())
	for i := range 9 {
		tag := fmt.Sprintf("v%d", i)
		w.push(tag, 2, 2<<20)
		victim := w.Of("")[i%3]
		var pulls sync.WaitGroup
		for kind, c := range both {
			pulls.Go(func() {
				if err := c.pull(t.Context(), tag); err != nil {
					t.Errorf("round %d, %s: %v", i, kind, err)
				}
			})
		}
		victim.Kill()
		pulls.Wait()
		victim.Run()
	}
}

// TestATagThatMoves: a store asks the registry again what a tag means, so that a node learns it as
// without one; while there is no registry it stays what it was.
func TestATagThatMoves(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	w := newWorld(t)
	w.Run()
	both := w.both(w.layout())
	for _, gone := range []bool{false, true} {
		img := w.push("latest", 1, 1000)
		for kind, c := range both {
			means := func() string {
				resp, err := c.do(t.Context(), http.MethodHead, "manifests/latest")
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				return resp.Header.Get("Docker-Content-Digest")
			}
			eventually(t, kind+" has the next", func() bool { return means() == img.digest })
			if gone {
				w.registry.Stop()
				if got := means(); got != img.digest {
					t.Errorf("%s without the registry: %s", kind, got)
				}
				w.registry.Start(t)
			}
		}
	}
}

// TestWhatIsNotThere: of a tag that is nowhere the registry is asked by stores, however many nodes
// want it; and what only another registry of the nodes' route has they get there.
func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	w := newWorld(t)
	w.Run()
	l := w.layout()
	const nodes, times = 5, 2
	for i := range nodes {
		c := clientOf(t, fronts.AgentOf(t, w.api, fmt.Sprintf("node-%d", i), l))
		for range times {
			if err := c.pull(t.Context(), "none"); err == nil {
				t.Error("it is there")
			}
		}
	}
	asked := w.registry.Count(func(q testregistry.Request) bool {
		return q.Path == "/v2/team/tool/manifests/none" && q.Status == http.StatusNotFound
	})
	if t.Logf("the registry was asked %d times", asked); asked == 0 || asked >= nodes*times {
		t.Errorf("the registry was asked %d times by %d pulls", asked, nodes*times)
	}
	other := newWorld(t)
	other.push("only-here", 1, 1000)
	two := w.layout(w.registry.Upstream("team"), other.registry.Upstream("team"))
	for kind, c := range w.both(two) {
		if err := c.pull(t.Context(), "only-here"); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
