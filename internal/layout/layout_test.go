package layout_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

var update = flag.Bool("update", false, "rewrite golden files")

const password = "S3CRET"

func registryA() upstream.Upstream {
	return upstream.Upstream{Host: "registry.a.example", Path: "deckhouse/ee", Scheme: upstream.HTTPS,
		Credentials: upstream.Credentials{Username: "license-token", Password: password + `"'\: #`}}
}

func registryB() upstream.Upstream {
	return upstream.Upstream{Host: "10.0.0.7:5000", Path: "mirror", Scheme: upstream.HTTP}
}

// transition is a layout in the middle of a switch from A to B.
func transition() layout.Layout {
	a, b := registryA(), registryB()
	return layout.Layout{
		Schema: layout.Schema, Generation: 7, Mode: "Direct", ActiveMode: "Unmanaged", Active: a, Target: b,
		Fallback: layout.Fallback{Host: "10.96.0.17:5001", CA: "PEM\n",
			Credentials: upstream.Credentials{Username: "node", Password: password}},
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(a), layout.NameOf(b)}, []upstream.Upstream{a, b}),
	}
}

func unmanaged() layout.Layout {
	a := registryA()
	return layout.Layout{
		Schema: layout.Schema, Generation: 9, Mode: "Unmanaged", ActiveMode: "Unmanaged", Active: a, Target: a,
		Routes: layout.Cross([]layout.Name{layout.NameOf(a)}, []upstream.Upstream{a}),
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]layout.Layout{"transition": transition(), "unmanaged": unmanaged()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := layout.Encode(l)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			back, err := layout.Decode(got)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, l) {
				t.Errorf("decoded to %+v, want %+v", back, l)
			}
		})
	}
}

func TestEncodingRoundTrips(t *testing.T) {
	t.Parallel()
	segment := rapid.StringMatching(`[0-9A-Za-z_-]([0-9A-Za-z._-]{0,5})?`)
	path := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(segment, 0, 3).Draw(t, "segments"), "/")
	})
	host := rapid.SampledFrom([]string{"r.io", "a.b.c:5000", "10.0.0.1", "localhost", "x:1"})
	secret := rapid.StringOfN(rapid.RuneFrom([]rune("aZ0\"'\\:#{}$é ~|>-")), 1, 12, -1)
	cas := []string{"", bundle(t, 1<<10), bundle(t, 2<<10)}
	anUpstream := rapid.Custom(func(t *rapid.T) upstream.Upstream {
		u := upstream.Upstream{Host: host.Draw(t, "host"), Path: path.Draw(t, "path"), Scheme: upstream.HTTPS}
		if rapid.Bool().Draw(t, "http") {
			u.Scheme = upstream.HTTP
		} else {
			u.CA = rapid.SampledFrom(cas).Draw(t, "ca")
		}
		if rapid.Bool().Draw(t, "private") {
			u.Credentials = upstream.Credentials{Username: "u", Password: secret.Draw(t, "password")}
		}
		return u
	})
	rapid.Check(t, func(t *rapid.T) {
		ups := rapid.SliceOfNDistinct(anUpstream, 1, 3, rapid.ID[upstream.Upstream]).Draw(t, "upstreams")
		names := []layout.Name{layout.Fixed()}
		for _, u := range rapid.SliceOfN(anUpstream, 0, 3).Draw(t, "names") {
			names = append(names, layout.NameOf(u))
		}
		l := layout.Layout{Schema: layout.Schema, Generation: rapid.Int64Range(1, 1<<40).Draw(t, "generation"), Mode: "Direct",
			ActiveMode: "Direct", Active: ups[0], Target: ups[len(ups)-1], Routes: layout.Cross(names, ups)}
		if rapid.Bool().Draw(t, "stores") {
			l.Stores = layout.Stores{Endpoints: []string{"10.0.0.1:5001"}, CA: cas[1], Credentials: ups[0].Credentials}
		}
		for reads := layout.Schema; reads <= layout.Newest; reads++ {
			data, err := layout.EncodeFor(l, reads)
			if err != nil {
				t.Fatal(err)
			}
			back, err := layout.Decode(data)
			if err != nil {
				t.Fatalf("%v\n%s", err, data)
			}
			if !reflect.DeepEqual(back, l) || !back.SameContent(l) || back.Version() != l.Version() {
				t.Fatalf("decoded to %+v, want %+v", back, l)
			}
		}
		stored, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var fromState layout.Layout
		if err := json.Unmarshal(stored, &fromState); err != nil || !reflect.DeepEqual(fromState, l) {
			t.Fatalf("the stored form does not round-trip: %v\n%s", err, stored)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good, err := layout.Encode(transition())
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("%q is not in\n%s", old, good)
		}
		return strings.ReplaceAll(string(good), old, new)
	}
	for name, c := range map[string]struct{ in, want string }{
		"nothing":             {"", "schema 0"},
		"no YAML":             {"{", "YAML"},
		"a scalar":            {password, "YAML"},
		"newer schema":        {replace("schema: 1\n", "schema: 3\n"), "schema 3, this program knows 2"},
		"no generation":       {replace("generation: 7\n", ""), "generation 0"},
		"negative generation": {replace("generation: 7\n", "generation: -7\n"), "generation -7"},
		"generation no number": {replace("generation: 7\n", "generation: seven\n"),
			"YAML"},
		"no mode":         {replace("mode: Direct\n", ""), "no mode"},
		"no hosts":        {"schema: 1\ngeneration: 1\nmode: Direct\n", "no hosts"},
		"no target":       {replace("target:\n", "other:\n"), "target"},
		"no mirrors":      {"schema: 1\ngeneration: 1\nmode: Direct\nhosts: {r.io: {mirrors: []}}\n", "no upstream serves it"},
		"null host":       {"schema: 1\ngeneration: 1\nmode: Direct\nhosts: {r.io: }\n", "no upstream serves it"},
		"path traversal":  {replace("to: mirror", "to: ../mirror"), "path segment"},
		"odd rewrite":     {replace("from: ^system/deckhouse", "from: .*"), "rewrite"},
		"host of a name":  {replace("10.0.0.7:5000:", "10.0.0.7:500000:"), "65535"},
		"unknown scheme":  {replace("scheme: http\n", "scheme: gopher\n"), "HTTPS"},
		"control in auth": {replace(`'S3CRET"''\: #'`, `"S3\eCRET"`), "control characters"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := layout.Decode([]byte(c.in))
			if !errors.Is(err, layout.ErrInvalid) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Fatalf("got %v, %v; want ErrInvalid with %q", l, err, c.want)
			}
			if strings.Contains(err.Error(), password) {
				t.Errorf("error shows a secret: %v", err)
			}
			if !l.IsZero() {
				t.Error("a layout came with the error")
			}
		})
	}
}

func TestDecodeIgnoresWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	data, err := layout.Encode(transition())
	if err != nil {
		t.Fatal(err)
	}
	more := "proxyEndpoints: [10.0.0.1:5001]\nfuture: {a: 1}\n" + strings.Replace(string(data), "- auth:", "- future: 1\n      auth:", 1)
	l, err := layout.Decode([]byte(more))
	if err != nil || !l.SameContent(transition()) {
		t.Errorf("got %v, %v", l, err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*layout.Layout){
		"a name without upstream": func(l *layout.Layout) { l.Routes[0].Upstreams = nil },
		"a name twice":            func(l *layout.Layout) { l.Routes[1].Name = l.Routes[0].Name },
		"an upstream twice": func(l *layout.Layout) {
			l.Routes[0].Upstreams = append(l.Routes[0].Upstreams, l.Routes[0].Upstreams[0])
		},
		"names not in order": func(l *layout.Layout) { slices.Reverse(l.Routes) },
		"no routes":          func(l *layout.Layout) { l.Routes = nil },
		"no schema":          func(l *layout.Layout) { l.Schema = 0 },
		"bad active":         func(l *layout.Layout) { l.Active.Host = "-" },
	} {
		l := transition()
		edit(&l)
		if data, err := layout.Encode(l); !errors.Is(err, layout.ErrInvalid) || data != nil {
			t.Errorf("%s: got %q, %v", name, data, err)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	base := transition()
	if v := base.Version(); v != base.Version() || len(v) != 64 {
		t.Errorf("version %q", v)
	}
	other := transition()
	other.Generation++
	if other.Version() == base.Version() {
		t.Error("the version does not include the generation")
	}
	other = transition()
	other.Routes[0].Upstreams[0].Host = "c.example"
	if other.Version() == base.Version() {
		t.Error("the version does not include the upstreams")
	}
	// Everybody who reads Nodes reads the version.
	other = transition()
	for i := range other.Routes {
		for j := range other.Routes[i].Upstreams {
			if !other.Routes[i].Upstreams[j].Credentials.IsZero() {
				other.Routes[i].Upstreams[j].Credentials.Password = "guess"
			}
		}
	}
	other.Active.Credentials.Password, other.Fallback.Credentials.Password = "guess", "guess"
	if other.Version() != base.Version() {
		t.Error("a password can be guessed from the version")
	}
	if !reflect.DeepEqual(base, transition()) {
		t.Error("Version changed its receiver")
	}
}

func TestNameHolds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, host, repository string
		want                   bool
	}{
		{"r.io:5000/a/b", "r.io:5000", "a/b", true},
		{"r.io:5000/a/b", "R.io:5000", "a/b/c", true},
		{"r.io:5000/a/b", "r.io:5000", "a/bc", false},
		{"r.io:5000/a/b", "r.io:5000", "a", false},
		{"r.io:5000/a/b", "r.io", "a/b", false},
		{"r.io", "r.io", "anything/at/all", true},
		{"r.io", "q.io", "anything", false},
	} {
		host, path, _ := strings.Cut(tc.name, "/")
		if got := (layout.Name{Host: host, Path: path}).Holds(tc.host, tc.repository); got != tc.want {
			t.Errorf("%s, %s/%s: %v", tc.name, tc.host, tc.repository, got)
		}
	}
}

func TestLogsShowNoPassword(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "layout", transition(), "way", transition().Fallback)
	if strings.Contains(log.String(), password) || !strings.Contains(log.String(), `"generation":7`) {
		t.Error(log.String())
	}
}

func FuzzDecode(f *testing.F) {
	for _, l := range []layout.Layout{transition(), unmanaged()} {
		data, err := layout.Encode(l)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(encodeFor(f, withCA(f), layout.Newest))
	f.Add(encodeFor(f, withStores(f), layout.Schema))
	f.Add(encodeFor(f, withStores(f), layout.Newest))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := layout.Decode(data)
		if err != nil {
			return
		}
		for reads := layout.Schema; reads <= layout.Newest; reads++ {
			again, err := layout.EncodeFor(l, reads)
			if err != nil {
				t.Fatalf("decoded, but does not encode: %v", err)
			}
			back, err := layout.Decode(again)
			if err != nil || !reflect.DeepEqual(back, l) {
				t.Fatalf("got %+v, %v; want %+v", back, err, l)
			}
		}
	})
}

// TestProbe: the image that the target must have travels, is part of the content, and
// changes nothing of layouts without one.
func TestProbe(t *testing.T) {
	t.Parallel()
	with, without := transition(), transition()
	with.Probe = "module@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	data, err := layout.Encode(with)
	if err != nil {
		t.Fatal(err)
	}
	got, err := layout.Decode(data)
	if err != nil || got.Probe != with.Probe || !got.SameContent(with) {
		t.Errorf("%q, %v", got.Probe, err)
	}
	if with.SameContent(without) || with.Version() == without.Version() {
		t.Error("a layout with another image to prove counts as the same")
	}
	for _, bad := range []string{"module@sha256:zz", "@sha512:ab"} {
		with.Probe = bad
		if err := with.Validate(); err == nil {
			t.Errorf("%q is valid", bad)
		}
	}
}

// TestWhatIsProvidedIsNoContent: other credentials of the moment are published and read,
// and the layout is the same, whoever compares.
func TestWhatIsProvidedIsNoContent(t *testing.T) {
	t.Parallel()
	with := func(password string, provided bool) layout.Layout {
		return transition().Each(func(u upstream.Upstream) upstream.Upstream {
			if u.Host == registryA().Host {
				u.Provided, u.Credentials = provided, upstream.Credentials{Username: "user-" + password[:3], Password: password}
			}
			return u
		})
	}
	for _, reads := range []int{layout.Schema, layout.Newest} {
		data, err := layout.EncodeFor(with(strings.Repeat("new", 500), true), reads)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := layout.Decode(data); err != nil || !reflect.DeepEqual(got, with(strings.Repeat("new", 500), true)) {
			t.Errorf("read as %+v, %v", got, err)
		}
	}
	now, next := with("now", true), with("next", true)
	if !now.SameContent(next) || now.Version() != next.Version() || !reflect.DeepEqual(now.Lasting(), next.Lasting()) || !now.Lasting().Covers(next.Lasting()) {
		t.Error("what is provided makes another layout")
	}
	if with("now", false).SameContent(with("next", false)) || now.SameContent(with("now", false)) {
		t.Error("another password of a user's makes no other layout")
	}
	if now.Lasting().Active.Credentials.Password != "" || now.Active.Credentials.Password != "now" {
		t.Error("the original has changed, or the copy has not")
	}
}
