package switchover

import (
	"slices"

	"github.com/d8-registry/registry/internal/layout"
)

// sameDesired reports whether both want the same.
func sameDesired(a, b Desired) bool {
	same := func(a, b layout.Layout) bool { return a.Generation == b.Generation && a.SameContent(b) }
	return same(a.Layout, b.Layout) && same(a.ProxyLayout, b.ProxyLayout) &&
		same(a.StoreLayout, b.StoreLayout) && a.Store == b.Store && a.Proxy == b.Proxy && a.Registry == b.Registry && slices.Equal(a.PullSecrets, b.PullSecrets) &&
		a.Workloads == b.Workloads && a.Own == b.Own && slices.Equal(a.Bootstrap, b.Bootstrap) && a.Legacy == b.Legacy
}

// withNames returns a sorted union of names; it changes neither argument.
func withNames(some []layout.Name, more ...layout.Name) []layout.Name {
	all := slices.Concat(some, more)
	slices.SortFunc(all, layout.Name.Compare)
	return slices.Compact(all)
}

// including appends what is missing and not zero; it changes neither argument.
func including[T comparable](some []T, more ...T) []T {
	var zero T
	all := slices.Clip(some)
	for _, one := range more {
		if one != zero && !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}
