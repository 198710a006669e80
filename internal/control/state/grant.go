package state

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Grant are credentials that a provider gave for an upstream, for a while. They are no
// part of a switch: no target, no generation and no step depends on them.
type Grant struct {
	// Of is the ID of the upstream, without credentials.
	Of                   string `json:"of"`
	upstream.Credentials `json:",inline"`
	// From is when they were asked for, Until when they end, by the controller's clock.
	// Until is zero if that is not known.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// With is an upstream with the credentials of the moment, if they are provided.
func (d Document) With(u upstream.Upstream) upstream.Upstream {
	if !u.Provided {
		return u
	}
	id := u.Lasting().ID()
	for _, g := range d.Grants {
		if g.Of == id {
			u.Credentials = g.Credentials
		}
	}
	return u
}

// filled is a layout as it is published: with the credentials of the moment.
func (d Document) filled(l layout.Layout) layout.Layout {
	if !slices.ContainsFunc(append(l.Upstreams(), l.Active, l.Target), func(u upstream.Upstream) bool { return u.Provided }) {
		return l
	}
	known := map[upstream.Upstream]upstream.Upstream{}
	return l.Each(func(u upstream.Upstream) upstream.Upstream {
		if _, ok := known[u]; !ok {
			known[u] = d.With(u)
		}
		return known[u]
	})
}

// Provided are the upstreams that a document needs credentials of from a provider.
func (d Document) Provided() []upstream.Upstream {
	all := append(d.Desired.Layout.Upstreams(), d.Desired.ProxyLayout.Upstreams()...)
	all = append(all, d.Desired.StoreLayout.Upstreams()...)
	all = append(all, d.Desired.Bootstrap...)
	all = append(all, d.Active.Upstream, d.Target.Upstream, d.Desired.Own, d.Desired.Layout.Active, d.Desired.Layout.Target)
	for _, t := range append([]switchover.Target{d.Desired.Registry}, d.Desired.PullSecrets...) {
		all = append(all, t.Upstream)
	}
	var provided []upstream.Upstream
	for _, u := range all {
		if u.Provided && !slices.Contains(provided, u) {
			provided = append(provided, u)
		}
	}
	return provided
}

// GrantsIn are the credentials in the published layout: all that is left of them when
// the state is lost.
func GrantsIn(secret *corev1.Secret) []Grant {
	if secret == nil {
		return nil
	}
	l, err := layout.Decode(secret.Data[v1alpha1.KeyLayout])
	if err != nil {
		return nil
	}
	var grants []Grant
	for _, u := range l.Upstreams() {
		if u.Provided && !u.Credentials.IsZero() {
			grants = append(grants, Grant{Of: u.Lasting().ID(), Credentials: u.Credentials})
		}
	}
	return grants
}
