package stores

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/pki"
)

// identify has the store of a node say that it serves by what it was given.
func (f *fleet) identify(name string) {
	f.report(name, func(s *v1alpha1.StoreStatus) {
		s.Identity = regauth.Fingerprint(f.wish.Users, []byte(f.there.RegistryNodes[name].Spec.Store.Certificate))
	})
}

// TestBehind: who serves by other users, or with a certificate of another CA, whether it has been
// given a new one already or not. A node that is away is not asked.
func TestBehind(t *testing.T) {
	t.Parallel()
	other := func(f *fleet) {
		ca, err := pki.NewCA(today(), pki.ServiceNames("cluster.local"))
		if err != nil {
			f.t.Fatal(err)
		}
		f.wish.CA = ca
	}
	all := func(f *fleet) {
		for _, name := range []string{"a", "b", "c"} {
			f.identify(name)
		}
	}
	for name, row := range map[string]struct {
		change func(f *fleet)
		want   string
	}{
		"all are as they should be": {func(*fleet) {}, ""},
		"other users":               {func(f *fleet) { f.wish.Users = []byte("others"); f.identify("b") }, "a c"},
		"no users are known":        {func(f *fleet) { f.wish.Users = nil }, "a b c"},
		"another CA, not given yet": {other, "a b c"},
		"another CA, given":         {func(f *fleet) { other(f); f.pass() }, "a b c"},
		"another CA, served by one": {func(f *fleet) { other(f); f.pass(); f.identify("c") }, "a b"},
		"another CA, served":        {func(f *fleet) { other(f); f.pass(); all(f) }, ""},
		"one is lost":               {func(f *fleet) { f.wish.Users = []byte("others"); f.lose("a") }, "b c"},
		"one has just started anew": {func(f *fleet) { f.node("b").Status.NodeInfo.BootID = "next" }, "b"},
		"one says nothing":          {func(f *fleet) { f.report("b", func(s *v1alpha1.StoreStatus) { s.Identity = "" }) }, "b"},
		"one does not serve now":    {func(f *fleet) { f.report("b", func(s *v1alpha1.StoreStatus) { s.State = v1alpha1.StoreFailing }) }, ""},
		"one may not run yet": {func(f *fleet) {
			f.there.RegistryNodes["b"].Spec.Store.Approved = ""
			f.report("b", func(s *v1alpha1.StoreStatus) { s.Identity = "" })
		}, ""},
		"none may run yet": {func(f *fleet) {
			for _, rn := range f.there.RegistryNodes {
				rn.Spec.Store = nil
			}
		}, "a store"},
		"none is wanted": {func(f *fleet) {
			f.wish.None = true
			f.pass()
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := running(t)
			all(f)
			row.change(f)
			got := strings.ReplaceAll(strings.Join(f.wish.Behind(f.there, today()), " "), "the store of node ", "")
			if got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}

// TestUses: a use counts from when we first saw it, whatever the clock of a node says; also of a
// store that is to run no more, until it is gone.
func TestUses(t *testing.T) {
	t.Parallel()
	f := running(t)
	k := New(nil)
	seen := func(after time.Duration, use time.Duration, clients ...string) {
		t.Helper()
		s := k.Seen(f.there, f.wish, today().Add(after))
		want := time.Time{}
		if use > 0 {
			want = today().Add(use)
		}
		if !s.LastUse.Equal(want) || !slices.Equal(s.Clients, clients) {
			t.Errorf("after %s it was used at %s by %q, want after %s by %q", after, s.LastUse, s.Clients, use, clients)
		}
	}
	says := func(name, use, clients string) {
		f.report(name, func(s *v1alpha1.StoreStatus) { s.LastUse, s.LastClients = use, clients })
	}
	seen(time.Minute, 0)
	says("a", "2099-01-01T00:00:00Z", "10.1.0.1")
	seen(2*time.Minute, 2*time.Minute, "10.1.0.1")
	seen(3*time.Minute, 2*time.Minute, "10.1.0.1")
	says("b", "1970-01-01T00:00:00Z", "10.1.0.2,10.1.0.3")
	seen(4*time.Minute, 4*time.Minute, "10.1.0.2", "10.1.0.3")
	says("a", "2099-01-01T00:01:00Z", "10.1.0.1")
	seen(5*time.Minute, 5*time.Minute, "10.1.0.1")
	f.wish = Wish{None: true}
	f.pass()
	says("worker", "2026-01-01T00:01:00Z", "10.1.0.4")
	seen(6*time.Minute, 6*time.Minute, "10.1.0.4")
	f.node("worker").UID = "another"
	f.node("a").Status.NodeInfo.BootID = "next"
	seen(7*time.Minute, 4*time.Minute, "10.1.0.2", "10.1.0.3")

	f.report("b", func(s *v1alpha1.StoreStatus) { s.OldUse = "ro 2026 10.0.0.1" })
	f.report("a", func(s *v1alpha1.StoreStatus) { s.OldUse = "ro 2026 10.0.0.2" })
	if got := maps.Collect(OldUses(f.there)); len(got) != 1 || got["uid-b"] != "ro 2026 10.0.0.1" {
		t.Errorf("%v", got)
	}
}
