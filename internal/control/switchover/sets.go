package switchover

import (
	"slices"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// sameDesired reports whether both want the same.
func sameDesired(a, b Desired) bool {
	same := func(a, b layout.Layout) bool { return a.Generation == b.Generation && a.SameContent(b) }
	return same(a.Layout, b.Layout) && same(a.ProxyLayout, b.ProxyLayout) &&
		a.Proxy == b.Proxy && a.Registry == b.Registry && slices.Equal(a.PullSecrets, b.PullSecrets) &&
		a.Workloads == b.Workloads && a.Own == b.Own && slices.Equal(a.Bootstrap, b.Bootstrap) && a.Legacy == b.Legacy
}

// withNames returns a sorted union of names; it changes neither argument.
func withNames(some []layout.Name, more ...layout.Name) []layout.Name {
	all := some
	for _, n := range more {
		if !slices.Contains(all, n) {
			all = append(slices.Clip(all), n)
		}
	}
	if !slices.IsSortedFunc(all, layout.Name.Compare) {
		all = slices.SortedFunc(slices.Values(all), layout.Name.Compare)
	}
	return all
}

// withTargets appends the targets that are missing and not zero; it changes
// neither argument.
func withTargets(some []Target, more ...Target) []Target {
	all := some
	for _, t := range more {
		if !t.IsZero() && !slices.Contains(all, t) {
			all = append(slices.Clip(all), t)
		}
	}
	return all
}

// withUpstreams appends the upstreams that are missing and not zero; it
// changes neither argument.
func withUpstreams(some []upstream.Upstream, more ...upstream.Upstream) []upstream.Upstream {
	all := some
	for _, u := range more {
		if !u.IsZero() && !slices.Contains(all, u) {
			all = append(slices.Clip(all), u)
		}
	}
	return all
}
