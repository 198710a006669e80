package routes

import (
	"fmt"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/owner"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// AskStores has the stores of each layout asked in front of its upstreams. Who asks has a name, so
// that each of many begins with a store of its own. A store never does: it would ask itself. It
// comes before the first Swap.
func (t *Table) AskStores(name string) { t.asking = name }

// stores are those of a layout in the order in which they are asked. There is no Hop in what they
// are asked, so that they pass it on to the one that has it.
func (p pool) stores(of layout.Stores, asking string) ([]*Target, error) {
	if asking == "" {
		return nil, nil
	}
	var all []*Target
	for _, endpoint := range owner.Of(asking, of.Endpoints) {
		m := atStore(endpoint, of.CA)
		m.Credentials = of.Credentials
		tg, err := p.get("store "+m.ID(), func() (*Target, error) { return newStore(m) })
		if err != nil {
			return nil, fmt.Errorf("store %s: %w", endpoint, err)
		}
		all = append(all, tg)
	}
	return all, nil
}

// NewStore is a store at an address, which has of a layout's upstreams what was pulled before: it
// is asked in front of them, by another store, whose certificate it knows.
func NewStore(address, ca string, shown upstream.ClientCert, onlyKept bool) (*Target, error) {
	m := atStore(address, ca)
	m.ClientCerts, m.Header = []upstream.ClientCert{shown}, map[string][]string{oci.HeaderHop: {"1"}}
	if onlyKept {
		m.Header["Cache-Control"] = []string{oci.OnlyKept}
	}
	t, err := newStore(m)
	if err == nil {
		t.onlyKept = onlyKept
	}
	return t, err
}

// OnlyKept reports whether this is a store as it is asked for what it has: see NewStore.
func (t *Target) OnlyKept() bool { return t.onlyKept }

func atStore(address, ca string) upstream.Mirror {
	return upstream.Mirror{Upstream: upstream.Upstream{Scheme: upstream.HTTPS, Host: address, CA: ca}, Root: oci.Root}
}

func newStore(m upstream.Mirror) (*Target, error) {
	reached, err := transport.ForStore(m)
	if err != nil {
		return nil, err
	}
	anonymous := m
	anonymous.Credentials = upstream.Credentials{}
	mapped := pathMapping{root: m.Root, mirror: true}
	return &Target{
		Server: &Server{Health: Health{ofStore: true}}, upstream: m.Upstream, paths: mapped, Transport: reached, ping: reached.Ping,
		lasting: "store " + anonymous.ID(), place: placeOf(m.Upstream),
	}, nil
}
