package layout_test

import (
	"slices"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

func TestCross(t *testing.T) {
	t.Parallel()
	a, b := registryA(), registryB()
	rotated := a
	rotated.Credentials.Password = "new"
	names := []layout.Name{layout.Fixed(), layout.NameOf(b), layout.NameOf(a), layout.NameOf(b)}
	got := layout.Cross(names, []upstream.Upstream{b, a, rotated, b})
	want := []layout.Route{
		{Name: layout.NameOf(b), Upstreams: []upstream.Upstream{b, a, rotated}},
		{Name: layout.NameOf(a), Upstreams: []upstream.Upstream{a, rotated, b}},
		{Name: layout.Fixed(), Upstreams: []upstream.Upstream{b, a, rotated}},
	}
	if len(got) != len(want) {
		t.Fatalf("got %d routes, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Name != want[i].Name || !slices.Equal(got[i].Upstreams, want[i].Upstreams) {
			t.Errorf("route %d: got %v, want %v", i, got[i], want[i])
		}
	}
	if names[0] != layout.Fixed() {
		t.Error("Cross sorted its argument")
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	a, b := registryA(), registryB()
	of := func(names []layout.Name, ups ...upstream.Upstream) layout.Layout {
		return layout.Layout{Routes: layout.Cross(names, ups)}
	}
	both := []layout.Name{layout.Fixed(), layout.NameOf(a)}
	for name, c := range map[string]struct {
		larger, smaller layout.Layout
		want            bool
	}{
		"itself":           {of(both, a), of(both, a), true},
		"nothing":          {layout.Layout{}, layout.Layout{}, true},
		"more upstreams":   {of(both, b, a), of(both, a), true},
		"an upstream gone": {of(both, b), of(both, a, b), false},
		"a name gone":      {of(both[:1], a, b), of(both, a), false},
		"all gone":         {layout.Layout{}, of(both, a), false},
	} {
		if got := c.larger.Covers(c.smaller); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestUpstreamsAndNames(t *testing.T) {
	t.Parallel()
	l := transition()
	if got := l.Upstreams(); !slices.Equal(got, []upstream.Upstream{registryB(), registryA()}) {
		t.Errorf("upstreams %v", got)
	}
	if _, ok := l.Route(layout.Fixed()); !ok || len(l.Names()) != 3 {
		t.Errorf("names %v", l.Names())
	}
	if _, ok := l.Route(layout.Name{Host: "x"}); ok {
		t.Error("found a route that is not there")
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	names := []layout.Name{
		layout.Fixed(),
		{Host: "r.io", Path: "team"},
		{Host: "r.io", Path: "team/deep"},
		{Host: "whole.io"},
		{Host: "docker.io", Path: "team"},
		{Host: "docker.io", Path: "library"},
		{Host: "registry-1.docker.io", Path: "team"},
		{Host: "[fd00::1]:5000", Path: "d8"},
	}
	for ref, want := range map[string]struct {
		name string
		rest string
	}{
		"registry.d8-system.svc:5001/system/deckhouse:v1":                 {"registry.d8-system.svc:5001/system/deckhouse", ":v1"},
		"registry.d8-system.svc:5001/system/deckhouse@sha256:00":          {"registry.d8-system.svc:5001/system/deckhouse", "@sha256:00"},
		"registry.d8-system.svc:5001/system/deckhouse/alpha:v1@sha256:00": {"registry.d8-system.svc:5001/system/deckhouse", "alpha:v1@sha256:00"},
		"registry.d8-system.svc:5001/system/deckhouse2/alpha:v1":          {},
		"registry.d8-system.svc:5001/system:v1":                           {},
		"registry.d8-system.svc/system/deckhouse:v1":                      {},
		"R.io/team/alpha:v1":                 {"r.io/team", "alpha:v1"},
		"r.io/team/deeper/alpha:v1":          {"r.io/team", "deeper/alpha:v1"},
		"r.io/team/deep/alpha":               {"r.io/team/deep", "alpha"},
		"r.io/team":                          {"r.io/team", ""},
		"r.io:5000/team/alpha":               {},
		"r.io.evil.io/team/alpha":            {},
		"whole.io/a/b:v1":                    {"whole.io", "a/b:v1"},
		"team/alpha:v1":                      {"docker.io/team", "alpha:v1"},
		"docker.io/team/alpha:v1":            {"docker.io/team", "alpha:v1"},
		"index.docker.io/team/alpha:v1":      {"docker.io/team", "alpha:v1"},
		"registry-1.docker.io/team/alpha:v1": {"registry-1.docker.io/team", "alpha:v1"},
		"docker.io/alpha@sha256:00":          {"docker.io/library", "alpha@sha256:00"},
		"docker.io/team:v1":                  {"docker.io/library", "team:v1"},
		"registry-1.docker.io/team:v1":       {"registry-1.docker.io/team", ":v1"},
		"[fd00::1]:5000/d8/alpha:v1":         {"[fd00::1]:5000/d8", "alpha:v1"},
		"[fd00::1]:5000/d8@sha256:00":        {"[fd00::1]:5000/d8", "@sha256:00"},
		"[fd00::1]/d8/alpha:v1":              {},
		"alpha":                              {"docker.io/library", "alpha"},
		"alpha:5000":                         {"docker.io/library", "alpha:5000"},
		"":                                   {},
		"/":                                  {},
		"@":                                  {},
	} {
		n, rest, ok := layout.MatchName(names, ref)
		if ok != (want.name != "") || ok && (n.String() != want.name || rest != want.rest) {
			t.Errorf("%s: got %v, %q, %v; want %v", ref, n, rest, ok, want)
		}
	}
}

func TestReferenceUndoesMatch(t *testing.T) {
	t.Parallel()
	for _, rest := range []string{"", ":v1", "@sha256:00", "alpha:v1", "a/b@sha256:00", "alpha"} {
		for _, n := range []layout.Name{layout.Fixed(), layout.NameOf(registryA())} {
			got, back, ok := layout.MatchName([]layout.Name{n}, n.Reference(rest))
			if !ok || got != n || back != rest {
				t.Errorf("%s: got %v, %q, %v", n.Reference(rest), got, back, ok)
			}
		}
	}
}
