package routes

import (
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

func TestNameAtUpstream(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ upstream, name, repository, want string }{
		{"team/a", "system/deckhouse", "system/deckhouse", "team/a"},
		{"team/a", "system/deckhouse", "system/deckhouse/tool", "team/a/tool"},
		{"", "system/deckhouse", "system/deckhouse/tool/x", "tool/x"},
		{"", "system/deckhouse", "system/deckhouse", ""},
		{"team/a", "", "tool", "team/a/tool"},
		{"", "", "tool", "tool"},
	} {
		got, ok := at(tc.upstream, tc.name, tc.repository)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("%+v: %q %v", tc, got, ok)
		}
	}
}

// Roots are what a URL's path becomes; below an odd one only the registry knows
// the names of its scopes.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		m                upstream.Mirror
		repository, want string
		ok               bool
	}{
		{upstream.Mirror{Root: "/v2"}, "a/b", "a/b", true},
		{upstream.Mirror{Rewrites: []upstream.Rewrite{{Regex: "^system/deckhouse", Replace: "deckhouse/EE"}}}, "system/deckhouse/x", "deckhouse/EE/x", true},
		{upstream.Mirror{Rewrites: []upstream.Rewrite{{Regex: "^a", Replace: ""}}}, "a/b", "b", true},
		{upstream.Mirror{Rewrites: []upstream.Rewrite{{Regex: "a.*", Replace: ""}}}, "a/b", "", false},
		{upstream.Mirror{Rewrites: []upstream.Rewrite{{Regex: "b", Replace: "?x=1"}}}, "a/b", "", false},
		{upstream.Mirror{Rewrites: []upstream.Rewrite{{Regex: "b", Replace: "..//c"}}}, "a/b", "", false},
		{upstream.Mirror{Rewrites: []upstream.Rewrite{{Regex: "b", Replace: strings.Repeat("c", 300)}}}, "a/b", "", false},
	} {
		p, err := mirrorMapping(c.m)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := p.repositoryAt(layout.Name{}, c.repository)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%v: %s, %t", c.m.Rewrites, got, ok)
		}
	}
}
