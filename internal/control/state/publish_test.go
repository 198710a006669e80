package state

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// layoutsOf are two registries, and layouts of them for a switch to the first.
func layoutsOf() (a, b upstream.Upstream, of func(generation int64, ups ...upstream.Upstream) layout.Layout) {
	a = upstream.Upstream{Host: "a.example", Scheme: upstream.HTTPS}
	b = upstream.Upstream{Host: "b.example", Scheme: upstream.HTTPS}
	return a, b, func(generation int64, ups ...upstream.Upstream) layout.Layout {
		return layout.Layout{
			Schema: layout.Schema, Generation: generation, Mode: "Direct", Target: a,
			Routes: layout.Cross([]layout.Name{layout.Fixed()}, ups),
		}
	}
}

// TestTheProxyGetsOnlyWhatMayBePublished: the agents' layout as published, or
// its own, which never loses what it has.
func TestTheProxyGetsOnlyWhatMayBePublished(t *testing.T) {
	t.Parallel()
	a, b, of := layoutsOf()
	encoded := func(l layout.Layout) []byte {
		data, err := layout.Encode(l)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	v := &View{Snapshot: &cluster.Snapshot{Layout: &corev1.Secret{Data: map[string][]byte{v1alpha1.KeyLayout: []byte("as published")}}}}
	v.Doc.Desired.Layout = of(7, a)
	if got, err := ProxyLayout(v); err != nil || string(got) != "as published" {
		t.Errorf("the agents' layout: %q, %v", got, err)
	}
	v.Doc.Desired.ProxyLayout = of(8, b, a)
	v.Observed.ProxyPublished = LayoutIn(&corev1.Secret{Data: map[string][]byte{v1alpha1.KeyProxyLayout: encoded(of(6, a))}}, v1alpha1.KeyProxyLayout)
	if got, err := ProxyLayout(v); err != nil || string(got) != string(encoded(of(8, b, a))) {
		t.Errorf("its own: %q, %v", got, err)
	}
	v.Doc.Desired.ProxyLayout = of(8, b)
	if got, err := ProxyLayout(v); !errors.Is(err, switchover.ErrShrinks) || got != nil {
		t.Errorf("its own, with less: %q, %v", got, err)
	}
}

// TestPublishIsRefused: what nodes need is not replaced by less, whatever went wrong
// before, and nothing is written then.
func TestPublishIsRefused(t *testing.T) {
	t.Parallel()
	a, b, of := layoutsOf()
	for want, published := range map[error]layout.Layout{switchover.ErrShrinks: of(6, a, b), switchover.ErrOlder: of(8, a)} {
		v := &View{Snapshot: &cluster.Snapshot{}}
		v.Doc.Desired.Layout = of(7, a)
		v.Observed.Published = switchover.Published{Found: true, Layout: published}
		var wrote bool
		s := &Store{cluster: &cluster.Client{Client: writes{wrote: &wrote}}}
		if err := s.Publish(t.Context(), v); !errors.Is(err, want) || wrote {
			t.Errorf("published over %d: %v, written %t; want %v", published.Generation, err, wrote, want)
		}
	}
}

// writes notes that something is written.
type writes struct {
	client.Client
	wrote *bool
}

func (w writes) Create(context.Context, client.Object, ...client.CreateOption) error {
	*w.wrote = true
	return nil
}

func (w writes) Update(context.Context, client.Object, ...client.UpdateOption) error {
	*w.wrote = true
	return nil
}
