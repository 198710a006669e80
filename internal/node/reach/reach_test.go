package reach

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/upstream"
)

func TestReach(t *testing.T) {
	t.Parallel()
	target := upstream.Upstream{Host: "b.example.com", Scheme: upstream.HTTPS}
	old := upstream.Upstream{Host: "a.example.com", Scheme: upstream.HTTPS}
	l := layout.Layout{Target: target, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: []upstream.Upstream{target, old}}}}
	now := time.Now()
	asked := make(chan string, 10)
	dead := map[string]bool{"a.example.com": true}
	r := New(5*time.Minute, 0)
	r.now = func() time.Time { return now }
	r.ping = func(_ context.Context, u upstream.Upstream) error {
		asked <- u.Host
		if dead[u.Host] {
			return errors.New("dead")
		}
		return nil
	}
	ask := func(want ...string) []answer {
		t.Helper()
		answers := r.ask(t.Context(), l)
		var got []string
		for len(asked) > 0 {
			got = append(got, <-asked)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("asked %q, want %q", got, want)
		}
		return answers
	}
	answers := ask("a.example.com", "b.example.com")
	if len(answers) != 2 || answers[0].err == nil || answers[0].target || answers[1].err != nil || !answers[1].target {
		t.Errorf("%+v", answers)
	}
	ask()
	rotated := target
	rotated.Credentials = upstream.Credentials{Username: "u", Password: "p"}
	l.Target = rotated
	ask() // reachability is not about credentials
	now = now.Add(deadAgain)
	ask("a.example.com")
	now = now.Add(4 * time.Minute)
	ask("a.example.com", "b.example.com")
	dead["b.example.com"] = true
	now = now.Add(5 * time.Minute)
	ask("a.example.com", "b.example.com")
	ask("b.example.com")
	l.Routes[0].Upstreams = []upstream.Upstream{target}
	if answers := ask("b.example.com"); len(answers) != 1 {
		t.Errorf("a registry that left the layout: %+v", answers)
	}
}

// TestOnlyTheTargetCounts: a dead old registry is reported, but it does not keep
// the node from being ready.
func TestOnlyTheTargetCounts(t *testing.T) {
	t.Parallel()
	target := upstream.Upstream{Host: "b.example.com", Scheme: upstream.HTTPS}
	old := upstream.Upstream{Host: "a.example.com", Scheme: upstream.HTTPS}
	l := layout.Layout{Target: target, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: []upstream.Upstream{target, old}}}}
	for dead, want := range map[string]bool{"a.example.com": true, "b.example.com": false} {
		c := New(time.Minute, 0)
		c.ping = func(_ context.Context, u upstream.Upstream) error {
			if u.Host == dead {
				return errors.New("no route to host")
			}
			return nil
		}
		r := report.New(report.Options{}).Begin()
		if got := c.Check(t.Context(), r, l); got != want || len(r.Problems()) == 0 != want {
			t.Errorf("%s is dead: %t, problems %q", dead, got, r.Problems())
		}
		for _, u := range r.Status.Upstreams {
			if bad := strings.Contains(u.Registry, dead); u.Reached == bad || (u.Message != "") != bad {
				t.Errorf("%s is dead: %+v", dead, u)
			}
		}
		if len(r.Status.Upstreams) != 2 {
			t.Errorf("%+v", r.Status.Upstreams)
		}
	}
}
