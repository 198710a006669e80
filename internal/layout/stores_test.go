package layout_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// withStores has three stores in front of the registries of transition.
func withStores(t testing.TB) layout.Layout {
	t.Helper()
	l := transition()
	l.Fallback.CA = bundle(t, 2<<10)
	l.Stores = layout.Stores{
		Endpoints: []string{"10.0.0.12:5001", "10.0.0.1:5001", "10.0.0.2:5001", "[fd00::2]:5001"},
		CA:        l.Fallback.CA, Credentials: l.Fallback.Credentials,
	}
	return l
}

// TestStoresTravel: with the documented key, in both schemas; their CA and the password of nodes
// are written once where each secret is.
func TestStoresTravel(t *testing.T) {
	t.Parallel()
	l := withStores(t)
	for _, reads := range []int{layout.Schema, layout.Newest} {
		data := encodeFor(t, l, reads)
		var doc struct {
			ProxyEndpoints []string `json:"proxyEndpoints"`
		}
		if err := yaml.Unmarshal(data, &doc); err != nil || !slices.Equal(doc.ProxyEndpoints, l.Stores.Endpoints) {
			t.Errorf("proxyEndpoints are %q, %v", doc.ProxyEndpoints, err)
		}
		back, err := layout.Decode(data)
		if err != nil || !reflect.DeepEqual(back, l) || !back.SameContent(l) || back.Version() != l.Version() {
			t.Errorf("schema %d is read as %+v, %v", reads, back, err)
		}
		certificates := strings.Count(l.Stores.CA, "BEGIN CERTIFICATE")
		if n := bytes.Count(data, []byte("BEGIN CERTIFICATE")); reads == layout.Newest && n != certificates {
			t.Errorf("the CA of %d certificates stands %d times", certificates, n)
		}
	}
}

// TestWhoDoesNotKnowStores reads the rest as it is: they are in front, and nothing is only there.
func TestWhoDoesNotKnowStores(t *testing.T) {
	t.Parallel()
	l := withStores(t)
	want := l
	want.Stores = layout.Stores{}
	for _, reads := range []int{layout.Schema, layout.Newest} {
		// As an older reader does: a key that is not known is ignored.
		data := bytes.Replace(encodeFor(t, l, reads), []byte("\nstores:\n"), []byte("\nunknown:\n"), 1)
		if back, err := layout.Decode(data); err != nil || !back.SameContent(want) {
			t.Errorf("schema %d is read as %+v, %v", reads, back, err)
		}
	}
}

// TestStoresAreNoUpstreams: no rule of a union counts them. What a reader asks is another content.
func TestStoresAreNoUpstreams(t *testing.T) {
	t.Parallel()
	with := withStores(t)
	without := with
	without.Stores = layout.Stores{}
	if !with.Covers(without) || !without.Covers(with) || !slices.Equal(with.Upstreams(), without.Upstreams()) ||
		!reflect.DeepEqual(without.Plus(with), without) {
		t.Error("a rule of a union counts stores")
	}
	if with.SameContent(without) || with.Version() == without.Version() {
		t.Error("a layout without stores counts as the same")
	}
	for name, edit := range map[string]func(*layout.Stores){
		"endpoints":   func(s *layout.Stores) { s.Endpoints = s.Endpoints[1:] },
		"CA":          func(s *layout.Stores) { s.CA = bundle(t, 1<<10) },
		"credentials": func(s *layout.Stores) { s.Credentials.Password = "guess" },
	} {
		other := with
		edit(&other.Stores)
		if with.SameContent(other) {
			t.Errorf("with other %s it counts as the same", name)
		}
		if (other.Version() == with.Version()) != (name == "credentials") {
			t.Errorf("%s: the version is to show all but a password", name)
		}
	}
}

func TestStoresAreRefused(t *testing.T) {
	t.Parallel()
	endpoints := func(all ...string) func(*layout.Stores) {
		return func(s *layout.Stores) { s.Endpoints = all }
	}
	ten := make([]string, layout.MaxStores+1)
	for i := range ten {
		ten[i] = fmt.Sprintf("10.0.0.1%d:5001", i)
	}
	for name, edit := range map[string]func(*layout.Stores){
		"none":                endpoints(),
		"too many":            endpoints(ten...),
		"a name":              endpoints("store:5001"),
		"no port":             endpoints("10.0.0.1"),
		"port 0":              endpoints("10.0.0.1:0"),
		"not as usual":        endpoints("10.0.0.1:05001"),
		"no address":          endpoints("0.0.0.0:5001"),
		"a zone":              endpoints("[fe80::1%eth0]:5001"),
		"IPv4 in IPv6":        endpoints("[::ffff:10.0.0.1]:5001"),
		"not sorted":          endpoints("10.0.0.2:5001", "10.0.0.1:5001"),
		"twice":               endpoints("10.0.0.1:5001", "10.0.0.1:5001"),
		"no CA":               func(s *layout.Stores) { s.CA = "" },
		"a CA that is none":   func(s *layout.Stores) { s.CA = password },
		"a CA too large":      func(s *layout.Stores) { s.CA = strings.Repeat("\n", upstream.MaxCA) + s.CA },
		"an odd user":         func(s *layout.Stores) { s.Credentials.Username = "a\nb" },
		"a password of noise": func(s *layout.Stores) { s.Credentials.Password = password + "\x00" },
	} {
		l := withStores(t)
		edit(&l.Stores)
		data, err := layout.Encode(l)
		if !errors.Is(err, layout.ErrInvalid) || !strings.Contains(err.Error(), "stores: ") || data != nil {
			t.Errorf("%s: %q, %v", name, data, err)
		} else if strings.Contains(err.Error(), password) {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
	l := withStores(t)
	l.Stores.Endpoints = ten[:layout.MaxStores]
	if _, err := layout.Encode(l); err != nil {
		t.Errorf("%d stores: %v", layout.MaxStores, err)
	}
}

func TestLogsShowNoPasswordOfStores(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	s := withStores(t).Stores
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "stores", s)
	fmt.Fprintf(&log, "%v %+v %#v", s, s, s)
	if strings.Contains(log.String(), password) || !strings.Contains(log.String(), "10.0.0.12:5001") {
		t.Error(log.String())
	}
}
