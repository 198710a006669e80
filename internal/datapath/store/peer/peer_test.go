package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/pki"
)

func file(t testing.TB, self string, endpoints ...string) []byte {
	t.Helper()
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(Stores{Self: self, Endpoints: endpoints, CA: ca.Cert})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestWhatIsWrongChangesNothing: the last good list stays, and it is said what is wrong; without a
// file there are no others.
func TestWhatIsWrongChangesNothing(t *testing.T) {
	t.Parallel()
	certificate, key := fronttest.Certificate(t)
	many := make([]string, mostStores+1)
	for i := range many {
		many[i] = fmt.Sprintf("10.0.0.%d:5001", i)
	}
	p := New(Config{})
	defer p.Close()
	good := file(t, "10.0.0.1:5001", "10.0.0.1:5001", "10.0.0.2:5001", "[fd00::3]:5001")
	p.Apply(good, nil, certificate, key)
	if n := len(p.now.Load().targets); n != 2 || p.Problem() != nil {
		t.Fatalf("%d others, %v", n, p.Problem())
	}
	for name, tc := range map[string]struct {
		file   []byte
		unread error
		key    []byte
		want   string
	}{
		"no JSON":     {[]byte("10.0.0.1:5001"), nil, key, "invalid character"},
		"half":        {good[:len(good)/2], nil, key, "unexpected end"},
		"a name":      {file(t, "10.0.0.1:5001", "store:5001"), nil, key, "entry 1"},
		"no self":     {file(t, "", "10.0.0.1:5001"), nil, key, "entry 0"},
		"no port":     {file(t, "10.0.0.1:5001", "10.0.0.2"), nil, key, "entry 1"},
		"spelled":     {file(t, "10.0.0.1:5001", "[FD00::3]:5001"), nil, key, "entry 1"},
		"too many":    {file(t, "10.0.0.1:5001", many...), nil, key, "65 endpoints"},
		"no CA":       {[]byte(`{"self": "10.0.0.1:5001"}`), nil, key, "no PEM certificate"},
		"another key": {good, nil, []byte("no key"), "client certificate"},
		"unread":      {nil, fmt.Errorf("no permission"), key, "no permission"},
	} {
		p.Apply(tc.file, tc.unread, certificate, tc.key)
		if err := p.Problem(); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if n := len(p.now.Load().targets); n != 2 {
			t.Errorf("%s: %d others", name, n)
		}
	}
	p.Apply(good, nil, certificate, key)
	if p.Problem() != nil {
		t.Errorf("mended: %v", p.Problem())
	}
	p.Apply(nil, nil, certificate, key)
	if n := len(p.now.Load().targets); n != 0 || p.Problem() != nil || p.Second("x") {
		t.Errorf("without a file: %d others, %v", n, p.Problem())
	}
}

// TestNoTwoAskEachOther: whatever lists stores have, and also one that is in no list, whoever asks
// another one comes after it.
func TestNoTwoAskEachOther(t *testing.T) {
	t.Parallel()
	certificate, key := fronttest.Certificate(t)
	at := func(n int) string { return fmt.Sprintf("10.0.0.%d:5001", n) }
	lists := map[string][]string{
		at(1): {at(1), at(2), at(3)}, at(2): {at(1), at(2)}, at(3): {at(3), at(4), at(1)}, at(4): {at(1), at(2), at(3)}, at(5): {at(4)},
	}
	all := map[string]*Peers{}
	for self, list := range lists {
		all[self] = New(Config{})
		all[self].Apply(file(t, self, list...), nil, certificate, key)
		defer all[self].Close()
	}
	for i := range 200 {
		digest := fmt.Sprintf("sha256:%064x", i)
		asks := func(a, b string) bool {
			before, after := all[a].now.Load().around(digest)
			isB := func(t *routes.Target) bool { return t.Host() == b }
			if all[a].Second(digest) != (len(before) > 0) {
				t.Errorf("%s of %s: second %t, and %d come before", a, digest, all[a].Second(digest), len(before))
			}
			if slices.ContainsFunc(before, isB) && slices.ContainsFunc(after, isB) {
				t.Errorf("%s is before and after %s", b, a)
			}
			return slices.ContainsFunc(before, isB)
		}
		for a := range lists {
			for b := range lists {
				if asks(a, b) && asks(b, a) {
					t.Fatalf("%s and %s ask each other for %s", a, b, digest)
				}
			}
		}
	}
}

type idle struct{}

type asked []*routes.Target

func (a *asked) RoundTrip(req *http.Request) (*http.Response, error) {
	*a = fetch.From(req.Context()).Route.Targets
	return nil, io.ErrUnexpectedEOF
}

// TestWhoIsAskedForWhatItHas: the one that comes next after a store, or all where nobody waits, and as who
// asks nobody; nobody once somebody gives. Another store asks for nobody who would ask again.
func TestWhoIsAskedForWhatItHas(t *testing.T) {
	t.Parallel()
	certificate, key := fronttest.Certificate(t)
	p := New(Config{Idle: func(ctx context.Context) bool { return ctx.Value(idle{}) != nil }})
	defer p.Close()
	p.Apply(file(t, "10.0.0.1:5001", "10.0.0.1:5001", "10.0.0.2:5001", "10.0.0.3:5001"), nil, certificate, key)
	for i := range 20 {
		pull := pullOf(fmt.Sprintf("sha256:%064x", i))
		before, after := p.now.Load().around(pull.Reference)
		next, nobodyWaits := min(len(after), 1), context.WithValue(t.Context(), idle{}, true)
		for _, tc := range []struct {
			ctx           context.Context
			hop, given    bool
			before, after int
		}{
			{t.Context(), false, false, len(before), next},
			{t.Context(), true, false, 0, next},
			{t.Context(), false, true, len(before), 0},
			{nobodyWaits, false, false, len(before), len(after)},
			{nobodyWaits, false, true, len(before), 0},
		} {
			var all asked
			x := &fetch.Exchange{Pull: pull, Record: &fetch.Record{}}
			if x.Pull.Hop = tc.hop; tc.given {
				x.Giver = &routes.Target{}
			}
			req, err := http.NewRequestWithContext(fetch.With(tc.ctx, x), http.MethodGet, "https://x", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := p.Transport(&all).RoundTrip(req); err == nil {
				_ = resp.Body.Close()
			}
			if len(all) != tc.before+tc.after || !slices.Equal(all[:tc.before], before[:tc.before]) {
				t.Fatalf("%s, %+v: %d are asked, %d come before and %d after", pull.Reference, tc, len(all), len(before), len(after))
			}
			for i, t2 := range all[tc.before:] {
				if t2 == after[i] || t2 != p.now.Load().keepers[after[i].Host()] {
					t.Errorf("%s is asked to fetch", t2.Host())
				}
				if t2.Server != after[i].Server {
					t.Errorf("what is known of %s depends on how it is asked", t2.Host())
				}
			}
		}
	}
}

// TestWhatIsToldIsBounded, and nobody waits for it.
func TestWhatIsToldIsBounded(t *testing.T) {
	t.Parallel()
	p := New(Config{})
	for i := range 2 * mostComing {
		pull := pullOf(fmt.Sprintf("sha256:%064x", i))
		p.note(pull)
		if i%2 == 0 {
			p.Stored(pull.Reference)
		}
	}
	if len(p.coming) > mostComing || len(p.tell) != mostWants {
		t.Errorf("%d come, %d are to be told", len(p.coming), len(p.tell))
	}
	p.Stored("sha256:of another store")
}

// FuzzFile: whatever is in the file, what is taken of it can be asked.
func FuzzFile(f *testing.F) {
	certificate, key := fronttest.Certificate(f)
	f.Add(file(f, "10.0.0.1:5001", "10.0.0.2:5001"))
	f.Add([]byte(`{"self": "[::]:0", "endpoints": ["x", ""], "ca": "-----BEGIN CERTIFICATE-----"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := New(Config{}).read(data, certificate, key)
		if err != nil || len(data) == 0 {
			return
		}
		before, after := all.around("sha256:" + strings.Repeat("1", 64))
		if len(before)+len(after) != len(all.targets) {
			t.Errorf("%d before, %d after, of %d", len(before), len(after), len(all.targets))
		}
	})
}

func pullOf(digest string) oci.Pull {
	return oci.Pull{Host: "registry.example.com", Repository: "tool", Kind: oci.KindBlobs, Reference: digest}
}
