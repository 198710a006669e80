package layout

import (
	"errors"
	"fmt"
	"slices"

	"github.com/d8-registry/registry/internal/upstream"
)

// Names are the names that the layout routes, sorted.
func (l Layout) Names() []Name {
	names := make([]Name, len(l.Routes))
	for i, r := range l.Routes {
		names[i] = r.Name
	}
	return names
}

// Upstreams are the upstreams of all routes, each once, in order of first use.
func (l Layout) Upstreams() []upstream.Upstream {
	var all []upstream.Upstream
	for _, r := range l.Routes {
		for _, u := range r.Upstreams {
			if !slices.Contains(all, u) {
				all = append(all, u)
			}
		}
	}
	return all
}

// Route finds the route of a name.
func (l Layout) Route(n Name) (Route, bool) {
	for _, r := range l.Routes {
		if r.Name == n {
			return r, true
		}
	}
	return Route{}, false
}

// SameContent reports whether both say the same, whatever their generations and
// whatever credentials are provided at the moment.
func (l Layout) SameContent(o Layout) bool {
	same := func(a, b upstream.Upstream) bool { return a.Lasting() == b.Lasting() }
	return l.Schema == o.Schema && l.Mode == o.Mode && l.ActiveMode == o.ActiveMode &&
		same(l.Active, o.Active) && same(l.Target, o.Target) && l.Probe == o.Probe && l.Fallback == o.Fallback && l.Stores.same(o.Stores) &&
		slices.EqualFunc(l.Routes, o.Routes, func(a, b Route) bool {
			return a.Name == b.Name && slices.EqualFunc(a.Upstreams, b.Upstreams, same)
		})
}

// Each is the layout with each of its upstreams changed.
func (l Layout) Each(change func(upstream.Upstream) upstream.Upstream) Layout {
	l.Active, l.Target = change(l.Active), change(l.Target)
	l.Routes = slices.Clone(l.Routes)
	for i, r := range l.Routes {
		l.Routes[i].Upstreams = slices.Clone(r.Upstreams)
		for j, u := range r.Upstreams {
			l.Routes[i].Upstreams[j] = change(u)
		}
	}
	return l
}

// Lasting is the layout without what is provided: what a state remembers of it.
func (l Layout) Lasting() Layout { return l.Each(upstream.Upstream.Lasting) }

// Covers reports whether each name of o is here, served by at least the
// upstreams that serve it there: going from o to l takes nothing away.
func (l Layout) Covers(o Layout) bool {
	for _, theirs := range o.Routes {
		ours, ok := l.Route(theirs.Name)
		if !ok {
			return false
		}
		for _, u := range theirs.Upstreams {
			if !slices.Contains(ours.Upstreams, u) {
				return false
			}
		}
	}
	return true
}

// Plus is the layout with what of o it lacks: it covers both. What it has
// already stays first.
func (l Layout) Plus(o Layout) Layout {
	if l.Covers(o) {
		return l
	}
	l.Routes = Cross(append(l.Names(), o.Names()...), append(l.Upstreams(), o.Upstreams()...))
	return l
}

// Cross routes every name to every upstream: a name's own registry first, the
// others behind it in the given order. The routes are sorted and share nothing
// with the arguments.
func Cross(names []Name, upstreams []upstream.Upstream) []Route {
	names = slices.Clone(names)
	slices.SortFunc(names, Name.Compare)
	names = slices.Compact(names)
	routes := make([]Route, 0, len(names))
	for _, n := range names {
		own := make([]upstream.Upstream, 0, len(upstreams))
		var others []upstream.Upstream
		for _, u := range upstreams {
			switch {
			case slices.Contains(own, u) || slices.Contains(others, u):
			case NameOf(u) == n:
				own = append(own, u)
			default:
				others = append(others, u)
			}
		}
		routes = append(routes, Route{Name: n, Upstreams: append(own, others...)})
	}
	return routes
}

// ErrInvalid is wrapped by what Validate returns.
var ErrInvalid = errors.New("invalid layout")

// Validate checks what every reader may rely on. It returns an error that
// wraps ErrInvalid.
func (l Layout) Validate() error {
	switch {
	case l.Schema != Schema:
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrInvalid, l.Schema, Schema)
	case l.Generation <= 0:
		return fmt.Errorf("%w: generation %d", ErrInvalid, l.Generation)
	case l.Mode == "":
		return fmt.Errorf("%w: no mode", ErrInvalid)
	case len(l.Routes) == 0:
		return fmt.Errorf("%w: no hosts", ErrInvalid)
	}
	if err := l.Stores.validate(); err != nil {
		return fmt.Errorf("%w: stores: %w", ErrInvalid, err)
	}
	valid := validOnce()
	if err := valid(l.Target); err != nil {
		return fmt.Errorf("%w: target: %w", ErrInvalid, err)
	}
	if !l.Active.IsZero() {
		if err := valid(l.Active); err != nil {
			return fmt.Errorf("%w: active: %w", ErrInvalid, err)
		}
	}
	if l.Probe != "" {
		if _, _, _, err := ManifestOf(NameOf(l.Target), l.Probe); err != nil {
			return fmt.Errorf("%w: probe: %w", ErrInvalid, err)
		}
	}
	for i, r := range l.Routes {
		if i > 0 && l.Routes[i-1].Name.Compare(r.Name) >= 0 {
			return fmt.Errorf("%w: name %s is not in order", ErrInvalid, r.Name)
		}
		if err := r.validate(valid); err != nil {
			return fmt.Errorf("%w: name %q: %w", ErrInvalid, r.Name, err)
		}
	}
	return nil
}

// validOnce validates each upstream once, however many names it serves: a CA may be a
// bundle of fifty certificates.
func validOnce() func(upstream.Upstream) error {
	known := map[upstream.Upstream]error{}
	return func(u upstream.Upstream) error {
		err, seen := known[u]
		if !seen {
			err = u.Validate()
			known[u] = err
		}
		return err
	}
}

func (r Route) validate(valid func(upstream.Upstream) error) error {
	if r.Name != Fixed() {
		address := upstream.Upstream{Host: r.Name.Host, Path: r.Name.Path, Scheme: upstream.HTTPS}
		if err := address.Validate(); err != nil {
			return err
		}
	}
	if len(r.Upstreams) == 0 {
		return errors.New("no upstream serves it")
	}
	for i, u := range r.Upstreams {
		if slices.Contains(r.Upstreams[:i], u) {
			return fmt.Errorf("upstream %s is there twice", u)
		}
		if err := valid(u); err != nil {
			return fmt.Errorf("upstream %d: %w", i+1, err)
		}
	}
	return nil
}
