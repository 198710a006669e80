package fetch

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// storeAndRegistry is a route with one store in front of one registry.
func storeAndRegistry(t *testing.T) routes.Route {
	t.Helper()
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	table.AskStores("node")
	if err := table.Swap(layout.Layout{
		Stores: layout.Stores{Endpoints: []string{"10.0.0.1:5001"}},
		Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: []upstream.Upstream{{Host: "r.example.com", Scheme: upstream.HTTPS}}}},
	}); err != nil {
		t.Fatal(err)
	}
	r, _ := table.Lookup(layout.Fixed().Host, "system/deckhouse/tool")
	return r
}

// TestOrderIsNoProbe: who finds out in which order targets are asked asks none of them yet. One
// that failed keeps its probe for who comes to it.
func TestOrderIsNoProbe(t *testing.T) {
	t.Parallel()
	r := storeAndRegistry(t)
	store, x := r.Targets[0], &Exchange{Route: r}
	store.Health.Failed(time.Now().Add(-time.Minute), time.Hour, false)
	f := failover{probe: time.Hour}
	for range 2 {
		if tries := f.order("GET", x); tries[0].target != store || !tries[0].probed {
			t.Errorf("the store is not asked first, as a probe: %+v", tries)
		}
	}
	if !store.Health.Probe(time.Now(), time.Hour) {
		t.Error("somebody else has the probe")
	}
	if tries := f.order("GET", x); tries[0].target == store {
		t.Errorf("while one probes the store is asked first: %+v", tries)
	}
}

// answers is an upstream that says the same to everybody.
type answers int

func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: int(a), Status: http.StatusText(int(a)), Header: http.Header{}, Body: http.NoBody, Request: req,
	}, nil
}

func (answers) CloseIdleConnections() {}

type unmeasured struct{ Metrics }

func (unmeasured) Attempt(string, judge.Outcome) {}

// TestAStoreThatAnswersIsThere: a store that was away and says that it has nothing is well. It has
// nothing else to show it by as long as it is asked for what it has; a registry is to serve.
func TestAStoreThatAnswersIsThere(t *testing.T) {
	t.Parallel()
	for _, code := range []int{404, 500} {
		r := storeAndRegistry(t)
		store, registry := r.Targets[0], r.Targets[1]
		store.Transport, registry.Transport = answers(code), answers(code)
		for _, target := range r.Targets {
			target.Health.Failed(time.Now().Add(-time.Hour), time.Second, true)
		}
		x := &Exchange{Route: r, Record: &Record{}, Pull: oci.Pull{Kind: oci.KindBlobs, Repository: "system/deckhouse/tool", Reference: "sha256:" + strings.Repeat("1", 64)}}
		req, err := http.NewRequestWithContext(With(t.Context(), x), http.MethodGet, "https://x", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := New(Config{Metrics: unmeasured{}}).RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
		if got := store.Health.State(time.Now()); got != routes.Healthy {
			t.Errorf("%d: the store is not well: %d", code, got)
		}
		if got := registry.Health.State(time.Now()); got == routes.Healthy {
			t.Errorf("%d: the registry is well", code)
		}
	}
}

// TestWhoGoesOn: who gave of a content goes on, before those that come first otherwise, unless it is
// unwell; and nobody is asked for the rest of a body who is asked for what it has.
func TestWhoGoesOn(t *testing.T) {
	t.Parallel()
	r := storeAndRegistry(t)
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := routes.NewStore("10.0.0.2:5001", ca.Cert, upstream.ClientCert{Cert: ca.Cert, Key: ca.Key}, true)
	if err != nil {
		t.Fatal(err)
	}
	store, registry := r.Targets[0], r.Targets[1]
	r.Targets = []*routes.Target{store, keeper, registry}
	want := func(x *Exchange, all ...*routes.Target) {
		t.Helper()
		var got []*routes.Target
		for _, try := range (failover{}).order("GET", x) {
			got = append(got, try.target)
		}
		if !slices.Equal(got, all) {
			t.Errorf("%+v: %v, want %v", x, got, all)
		}
	}
	want(&Exchange{Route: r}, store, keeper, registry)
	want(&Exchange{Route: r, begun: true}, store, registry)
	want(&Exchange{Route: r, Giver: store}, store, keeper, registry)
	want(&Exchange{Route: r, Giver: registry}, registry, store, keeper)
	registry.Health.Failed(time.Now(), time.Hour, false)
	want(&Exchange{Route: r, Giver: registry}, store, keeper, registry)
}

// TestStoresLeaveTime: a store that waits for a slow registry has more than its share, and whatever
// stores do, the registries behind them have time to answer. Without stores each has its share.
func TestStoresLeaveTime(t *testing.T) {
	t.Parallel()
	r := storeAndRegistry(t)
	s, u, probed := try{target: r.Targets[0]}, try{target: r.Targets[1]}, try{target: r.Targets[1], probed: true}
	f := failover{budget: 18 * time.Second, hop: 2 * time.Second}
	for name, tc := range map[string]struct {
		left  time.Duration
		tries []try
		want  time.Duration
	}{
		"one registry":                  {18 * time.Second, []try{u}, 18 * time.Second},
		"three registries":              {18 * time.Second, []try{u, u, u}, 6 * time.Second},
		"a probe":                       {18 * time.Second, []try{probed, u}, 18 * time.Second / probeShare},
		"a last probe":                  {18 * time.Second, []try{probed}, 18 * time.Second},
		"a store":                       {18 * time.Second, []try{s, u}, 12 * time.Second},
		"the first of three stores":     {18 * time.Second, []try{s, s, s, u, u}, 12 * time.Second},
		"the next, after a moment":      {16 * time.Second, []try{s, s, u, u}, 10 * time.Second},
		"the next, after all that time": {6 * time.Second, []try{s, s, u, u}, 0},
		"and then the registries":       {6 * time.Second, []try{u, u}, 3 * time.Second},
		"a store that was not well":     {6 * time.Second, []try{s, s}, 3 * time.Second},
		"a registry, then dead stores":  {18 * time.Second, []try{u, s, s, s}, 16 * time.Second},
		"a mirror, stores, a registry":  {18 * time.Second, []try{u, s, s, u}, 8 * time.Second},
		"a registry, late":              {2 * time.Second, []try{u, s, s}, time.Second},
	} {
		if got := f.share(tc.left, tc.tries); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
