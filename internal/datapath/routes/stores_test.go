package routes

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/owner"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

func someStores(t *testing.T) layout.Stores {
	t.Helper()
	_, ca, err := cert.SelfSigned("10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return layout.Stores{
		Endpoints: []string{"10.0.0.1:5001", "10.0.0.2:5001", "10.0.0.3:5001"}, CA: ca,
		Credentials: upstream.Credentials{Username: "node", Password: "1"},
	}
}

func hostsOf(r Route) (hosts []string) {
	for _, tg := range r.Targets {
		hosts = append(hosts, tg.Host())
	}
	return hosts
}

// TestWhoAsksStores: whoever has a name, first, in an order of its own, for the names of the layout
// and no others. A store that has a layout with stores in it asks none: it would ask itself.
func TestWhoAsksStores(t *testing.T) {
	t.Parallel()
	stores := someStores(t)
	registry := upstream.Upstream{Host: "r.example.com", Scheme: upstream.HTTPS, Path: "d8"}
	l := layout.Layout{Generation: 1, Stores: stores, Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(registry)}, []upstream.Upstream{registry})}
	mirror := upstream.Mirror{Upstream: upstream.Upstream{Scheme: upstream.HTTPS, Host: stores.Endpoints[0], CA: stores.CA, Credentials: stores.Credentials}, Root: "/v2"}
	first := map[string]bool{}
	for i := range 20 {
		name := fmt.Sprintf("node-%d", i)
		if i == 0 {
			name = ""
		}
		table := NewTable(nil)
		t.Cleanup(table.Close)
		table.AskStores(name)
		if err := table.Swap(l); err != nil {
			t.Fatal(err)
		}
		if err := table.SwapUsers([]upstream.UserHost{{Name: "r.example.com", Mirrors: []upstream.Mirror{mirror}}, {Name: "other.example.com", Mirrors: []upstream.Mirror{mirror}}}); err != nil {
			t.Fatal(err)
		}
		var order []string
		if name != "" {
			order = owner.Of(name, stores.Endpoints)
			first[order[0]] = true
		}
		for host, want := range map[string][]string{
			layout.Fixed().Host: slices.Concat(order, []string{"r.example.com"}),
			"r.example.com":     slices.Concat([]string{stores.Endpoints[0]}, order, []string{"r.example.com"}), // the user's mirror is one of its own
			"other.example.com": {stores.Endpoints[0]},
		} {
			r, _ := table.Lookup(host, map[bool]string{true: "system/deckhouse/tool", false: "d8/tool"}[host == layout.Fixed().Host])
			if got := hostsOf(r); !slices.Equal(got, want) {
				t.Errorf("%q asks %q for %s, want %q", name, got, host, want)
			}
			for i, tg := range r.Targets {
				isStore := slices.Contains(stores.Endpoints, tg.Host()) && (i > 0 || host == layout.Fixed().Host)
				if tg.IsStore() != isStore || tg.OfUser() == (isStore || tg.Host() == "r.example.com") {
					t.Errorf("%s: target %d is a store: %v, a user's: %v", host, i, tg.IsStore(), tg.OfUser())
				}
			}
		}
	}
	if len(first) != len(stores.Endpoints) {
		t.Errorf("19 nodes begin with %d of %d stores", len(first), len(stores.Endpoints))
	}
}

// TestWhatIsKnownOfAStore stays when others come or go and when the password of nodes is another one.
func TestWhatIsKnownOfAStore(t *testing.T) {
	t.Parallel()
	stores := someStores(t)
	table := NewTable(nil)
	t.Cleanup(table.Close)
	table.AskStores("node")
	find := func(s layout.Stores) *Target {
		l := layout.Layout{Generation: 1, Stores: s, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: []upstream.Upstream{{Host: "r.example.com", Scheme: upstream.HTTPS}}}}}
		if err := table.Swap(l); err != nil {
			t.Fatal(err)
		}
		r, _ := table.Lookup(layout.Fixed().Host, "system/deckhouse/tool")
		for _, tg := range r.Targets {
			if tg.Host() == stores.Endpoints[0] {
				return tg
			}
		}
		return nil
	}
	before := find(stores)
	before.Health.Failed(time.Now(), time.Hour, false)
	fewer, renewed, none := stores, stores, layout.Stores{}
	fewer.Endpoints, renewed.Credentials.Password = stores.Endpoints[:1], "2"
	if after := find(fewer); after != before {
		t.Error("it is another one when others go")
	}
	after := find(renewed)
	if after == before || after.Server != before.Server {
		t.Error("it is the same with another password, or nothing is known of it")
	}
	if current := (Route{Targets: []*Target{before}}).Current(); !slices.Equal(current.Targets, []*Target{after}) {
		t.Error("pulls in flight go on with the old password")
	}
	if find(none) != nil {
		t.Error("it is asked though it is no more")
	}
	broken := stores
	broken.CA = "no PEM"
	err := table.Swap(layout.Layout{Generation: 2, Stores: broken, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: []upstream.Upstream{{Host: "r.example.com", Scheme: upstream.HTTPS}}}}})
	if err == nil || table.Generation() != 1 {
		t.Errorf("a CA that is none: %v, generation %d", err, table.Generation())
	}
}

// TestNoHTTPProxyIsBeforeStores, where one is before the registries. Who is before whom is read from the
// environment once in a process: this is in one of its own.
func TestNoHTTPProxyIsBeforeStores(t *testing.T) {
	t.Parallel()
	const proxy = "127.0.0.1:1"
	if os.Getenv("HTTPS_PROXY") != "http://"+proxy {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), "HTTPS_PROXY=http://"+proxy, "NO_PROXY=", "no_proxy=")
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	table := NewTable(nil)
	t.Cleanup(table.Close)
	table.AskStores("node")
	stores := someStores(t)
	stores.Endpoints = []string{"192.0.2.1:5001"}
	registry := upstream.Upstream{Host: "192.0.2.2:5001", Scheme: upstream.HTTPS}
	if err := table.Swap(layout.Layout{Generation: 1, Stores: stores, Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{registry})}); err != nil {
		t.Fatal(err)
	}
	r, _ := table.Lookup(layout.Fixed().Host, "system/deckhouse")
	moment, end := context.WithTimeout(t.Context(), time.Second)
	defer end() // nobody is there: who is dialled is all that is asked
	for _, tg := range r.Targets {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+tg.Host()+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if tg.IsStore() {
			req = req.WithContext(moment)
		}
		resp, err := tg.Transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if err == nil || strings.Contains(err.Error(), proxy) == tg.IsStore() {
			t.Errorf("%s: %v", tg.Host(), err)
		}
	}
}
