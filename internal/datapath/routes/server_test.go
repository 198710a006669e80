package routes

import (
	"slices"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestARenewalForgetsNothingOfTheServer: who did not answer, or gave other bytes, does not
// do better for other credentials. What may be about the credentials is forgotten.
func TestARenewalForgetsNothingOfTheServer(t *testing.T) {
	t.Parallel()
	first := upstream.Upstream{Host: "r.example.com", Scheme: upstream.HTTPS, Path: "d8", Provided: true, Credentials: upstream.Credentials{Username: "u", Password: "1"}}
	second, third, elsewhere := first, first, first
	second.Credentials.Password, third.Credentials.Password, elsewhere.Path = "2", "3", "other"
	for name, tc := range map[string]struct {
		swaps     [][]upstream.Upstream
		outcome   judge.Outcome
		known     bool // what is known of the server is that of before
		failing   bool
		isCurrent bool // requests in flight go on with the last
	}{
		"the same":                 {[][]upstream.Upstream{{first}}, judge.ServerError, true, true, true},
		"renewed":                  {[][]upstream.Upstream{{second}}, judge.NoConnection, true, true, true},
		"its token server fails":   {[][]upstream.Upstream{{second}}, judge.ServerError, true, false, true},
		"and renewed again":        {[][]upstream.Upstream{{elsewhere, second}, {first, elsewhere}}, judge.NoConnection, true, true, true},
		"an answer to credentials": {[][]upstream.Upstream{{second}}, judge.Nonsense, true, false, true},
		"beside each other":        {[][]upstream.Upstream{{second, first}}, judge.ServerError, false, false, false},
		"one after the other":      {[][]upstream.Upstream{{second, first}, {second}}, judge.ServerError, false, false, true},
		"and then renewed":         {[][]upstream.Upstream{{second, first}, {second}, {third}}, judge.ServerError, false, false, true},
		"another registry":         {[][]upstream.Upstream{{elsewhere}}, judge.ServerError, false, false, false},
	} {
		table := NewTable(nil)
		t.Cleanup(table.Close)
		swap := func(upstreams []upstream.Upstream) Route {
			if err := table.Swap(layout.Layout{Generation: 1, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}}}); err != nil {
				t.Fatal(err)
			}
			route, _ := table.Lookup(layout.Fixed().Host, "system/deckhouse/tool")
			return route
		}
		now := time.Now()
		before := swap([]upstream.Upstream{first})
		was := before.Targets[0]
		was.Health.Failed(now, time.Hour, false)
		was.Corrupt.Note(now, someDigest)
		for i := range failingAttempts {
			was.Streak.Note(now.Add(time.Duration(i-failingAttempts)*failingFor), tc.outcome, "why")
		}
		var last []upstream.Upstream
		var is *Target
		for _, last = range tc.swaps {
			is = swap(last).Targets[0]
		}
		if known := is.Health.State(now) == Unhealthy && is.Corrupt.Has(now, someDigest); known != tc.known {
			t.Errorf("%s: known: %v", name, known)
		}
		if failing := table.Failing(last[0]); (failing != "") != tc.failing {
			t.Errorf("%s: failing: %q", name, failing)
		}
		if current := before.Current(); len(current.Targets) != 1 || (current.Targets[0] == is) != tc.isCurrent {
			t.Errorf("%s: requests in flight go on with %v", name, current.Targets)
		}
	}
}

// TestTwoAccountsAreRenewed: one may read what the other may not, so requests in flight ask
// them all, and no account that went before.
func TestTwoAccountsAreRenewed(t *testing.T) {
	t.Parallel()
	account := func(password string) upstream.Upstream {
		return upstream.Upstream{Host: "r.example.com", Scheme: upstream.HTTPS, Path: "d8", Credentials: upstream.Credentials{Username: "u", Password: password}}
	}
	for range 20 { // the order of a map is not to matter
		table := NewTable(nil)
		swap := func(accounts ...upstream.Upstream) Route {
			if err := table.Swap(layout.Layout{Generation: 1, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: accounts}}}); err != nil {
				t.Fatal(err)
			}
			route, _ := table.Lookup(layout.Fixed().Host, "system/deckhouse/tool")
			return route
		}
		before := swap(account("1"), account("2"))
		between := swap(account("3"), account("4"))
		now := swap(account("5"), account("4"))
		for _, route := range []Route{before, between} {
			current := route.Current().Targets
			if len(current) != 2 || !slices.Contains(current, now.Targets[0]) || !slices.Contains(current, now.Targets[1]) {
				t.Fatalf("requests in flight go on with %d accounts", len(current))
			}
		}
		table.Close()
	}
}
