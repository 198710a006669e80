package clients

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/fronts"
	"github.com/d8-registry/registry/test/harness/parts"
	"github.com/d8-registry/registry/test/harness/realregistry"
)

var server apiserver.Server

// Tests run in a network and mount namespace of their own.
func TestMain(m *testing.M) {
	os.Exit(containerdtest.Isolate(func() int { return server.Main(m) }))
}

// world is all clients before registries that fail as planned.
type world struct {
	plan     *plan
	clients  []client
	contents []content
}

func newWorld(t *testing.T, rng *rand.Rand, big int64) *world {
	t.Helper()
	w := &world{plan: &plan{}, contents: contents(t, rng, big)}
	registry := realregistry.Start(t, false)
	for _, c := range w.contents {
		registry.Push(t, "team/"+c.name, tag, c.what)
	}
	behind := registry.Upstream("team")
	a, b := newFaulty(t, behind, w.plan), newFaulty(t, behind, w.plan)
	l := fronts.Layout(a, b)
	l.Routes = append(l.Routes, layout.Route{Name: alone(), Upstreams: []upstream.Upstream{a}})
	for _, v := range containerdtest.Versions() {
		w.clients = append(w.clients, newNode(t, v, l))
	}
	api := server.Start(t)
	proxies := pair{two: fronts.Proxy(t, api, a, b), one: fronts.Proxy(t, api, a)}
	agents := pair{two: fronts.Agent(t, api, a, b), one: fronts.Agent(t, api, a)}
	w.clients = append(w.clients, library{agents, "agent"}, library{proxies, "in-cluster proxy"}, newSkopeo(t, proxies))
	return w
}

func reports(s registryv1alpha1.RegistryNodeStatus) bool { return s.Generation == 1 }

// round is one pull with one fault.
type round struct {
	client  client
	content content
	two     bool
	fault   fault
}

func (r round) String() string {
	route := "one registry"
	if r.two {
		route = "two registries"
	}
	what := "blob"
	if r.fault.victim.manifest {
		what = "manifest"
	}
	return fmt.Sprintf("%s: %s of %s: %s of %s of %d bytes at %.3f", r.client, r.content.name, route, r.fault.kind, what, r.fault.victim.size, r.fault.at)
}

// promised reports whether a client is not to notice the fault. What breaks off or goes
// silent in the middle of a blob is continued, from whom there is. A refusal, and what was
// read and judged before the client has a byte (manifests, and blobs of up to 32 KiB), is
// made up for by another registry, if that one is well. All else must not pass for right,
// and the next pull is right.
func (r round) promised() bool {
	const judged = 32 << 10
	otherIsWell := r.two && len(r.fault.at) == 1
	switch r.fault.kind {
	case cut, reset, stall, silence:
		return !r.fault.victim.manifest || otherIsWell
	case truncated, wrong:
		return otherIsWell && (r.fault.victim.manifest || r.fault.victim.size <= judged)
	case unended:
		return otherIsWell && r.fault.victim.manifest
	case refused:
		return otherIsWell
	}
	return false
}

// result is how a round went.
type result struct {
	round
	attempts, asked int
}

// A client tries so often, with a pause that grows. Kubelet tries for as long as it takes,
// and its pauses are ten times as long.
const (
	attemptsMost = 6
	pause        = 500 * time.Millisecond
)

// play pulls until it succeeds, and checks every digest.
func (w *world) play(t *testing.T, r round) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w.plan.set(r.fault)
	defer w.plan.set(fault{})
	for attempt := 1; ; attempt++ {
		got, err := r.client.pull(ctx, t, r.content, r.two)
		if err == nil {
			for _, i := range r.client.pulls(r.content) {
				if got[i.digest] != i.digest {
					t.Errorf("%s: %s is %s", r, i.digest, got[i.digest])
				}
			}
			asked := w.plan.times()
			if asked == 0 {
				t.Errorf("%s: it was not asked for", r)
			}
			r.client.forget(t, r.content)
			return result{r, attempt, asked}
		}
		if r.promised() || attempt == attemptsMost {
			t.Errorf("%s: attempt %d: %v", r, attempt, err)
		}
		if attempt == attemptsMost {
			return result{r, attempt, w.plan.times()}
		}
		<-time.After(time.Duration(attempt) * pause) // containerd keeps wrong bytes until it collects its garbage
	}
}

func (w *world) random(rng *rand.Rand, number int, long bool) round {
	r := round{client: w.clients[number%len(w.clients)], two: rng.IntN(2) == 0}
	bigs := 4
	kinds := []kind{cut, reset, stall, refused, truncated, unended, wrong}
	if long {
		bigs = 10
		if rng.IntN(50) == 0 {
			kinds = []kind{silence}
		}
	}
	r.content = w.contents[rng.IntN(2)]
	if rng.IntN(bigs) == 0 {
		r.content = w.contents[2]
	}
	r.fault.kind = kinds[(number/len(w.clients)+number%len(w.clients))%len(kinds)] // all of them for each client
	items := r.client.pulls(r.content)
	r.fault.victim = items[rng.IntN(len(items))]
	if r.content.name == "big" { // its layer is what it is for
		r.fault.victim = items[1]
	}
	for range 1 + rng.IntN(3) {
		r.fault.at = append(r.fault.at, rng.Float64())
	}
	if r.fault.kind == wrong || r.fault.kind == silence || r.fault.kind == refused {
		r.fault.at = r.fault.at[:1]
	}
	r.fault.status = []int{500, 502, 503, 504}[rng.IntN(4)]
	if r.fault.kind == stall {
		r.fault.pause = time.Duration(100+rng.IntN(1000)) * time.Millisecond
	}
	return r
}

// TestRounds pulls and pulls, and each digest is right. ROUNDS, SEED and LAYER (the big
// layer, in MiB) change it: make faults.
func TestRounds(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	rounds, seed, layer := setting(t, "ROUNDS", 42), setting(t, "SEED", time.Now().UnixNano()), setting(t, "LAYER", 16)
	t.Logf("SEED=%d ROUNDS=%d LAYER=%d", seed, rounds, layer)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	w := newWorld(t, rng, layer<<20)
	var all []result
	for i := range int(rounds) {
		r := w.random(rng, i, rounds >= 200)
		started := time.Now()
		got := w.play(t, r)
		t.Logf("%d: %s: %d attempts, asked %d times, %.1f s", i+1, r, got.attempts, got.asked, time.Since(started).Seconds())
		all = append(all, got)
	}
	t.Logf("SEED=%d\n%s", seed, table(all))
}

func setting(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(name, err)
	}
	return n
}

// table sums the rounds up by client and by fault.
func table(all []result) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, by := range []func(result) string{
		func(r result) string { return r.client.String() },
		func(r result) string { return string(r.fault.kind) },
		func(r result) string { return r.content.name },
		func(result) string { return "all" },
	} {
		_, _ = fmt.Fprintln(w, "\trounds\tpromised\tasked again by us\tfailed pulls of the client\tof those promised")
		names := []string{}
		sums := map[string]*[5]int{}
		for _, r := range all {
			name := by(r)
			if sums[name] == nil {
				sums[name] = &[5]int{}
				names = append(names, name)
			}
			s := sums[name]
			s[0]++
			s[3] += r.attempts - 1
			s[2] += max(0, r.asked-r.attempts)
			if r.promised() {
				s[1]++
				s[4] += r.attempts - 1
			}
		}
		slices.Sort(names)
		for _, name := range names {
			s := sums[name]
			_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\n", name, s[0], s[1], s[2], s[3], s[4])
		}
	}
	_ = w.Flush() // to memory
	return out.String()
}
