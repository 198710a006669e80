package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	clientPassword = "client-password"
	nodePassword   = "node-password"
)

// content is the data of a Secret as the controller writes it.
func content(t *testing.T, generation int64, upstreams ...upstream.Upstream) map[string][]byte {
	t.Helper()
	l := layout.Layout{
		Schema: layout.Schema, Generation: generation, Mode: "Direct",
		ActiveMode: "Direct", Active: upstreams[0], Target: upstreams[0],
		Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}},
	}
	encoded, err := layout.Encode(l)
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafOf(t)
	return map[string][]byte{
		v1alpha1.KeyProxyLayout: encoded,
		v1alpha1.KeyProxyUsers: fmt.Appendf(nil, "- {name: ro, sha256: %s, role: client}\n- {name: node, sha256: %s, role: node}\n",
			sum(clientPassword), sum(nodePassword)),
		"tls.crt": []byte(leaf.Cert), "tls.key": []byte(leaf.Key),
	}
}

// authority is the CA of one test.
func leafOf(t *testing.T) pki.KeyPair {
	t.Helper()
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _, err := pki.EnsureLeaf(time.Now(), ca, pki.KeyPair{}, []string{"registry.d8-system.svc", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func sum(password string) string {
	s := sha256.Sum256([]byte(password))
	return hex.EncodeToString(s[:])
}

var someUpstream = upstream.Upstream{Host: "registry.example.com", Path: "team", Scheme: upstream.HTTPS}

func newTestLoaded(t *testing.T) *loaded {
	t.Helper()
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	return newLoaded(table, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

// with is data with one key replaced; an empty value removes it.
func with(data map[string][]byte, key, value string) map[string][]byte {
	next := map[string][]byte{}
	for k, v := range data {
		next[k] = v
	}
	next[key] = []byte(value)
	if value == "" {
		delete(next, key)
	}
	return next
}

func TestLayoutThatIsTaken(t *testing.T) {
	t.Parallel()
	other := someUpstream
	other.Host = "other.example.com"
	first := content(t, 5, someUpstream)
	text := func(generation int64, u ...upstream.Upstream) string {
		return string(content(t, generation, u...)[v1alpha1.KeyProxyLayout])
	}
	for name, tc := range map[string]struct {
		layout     string
		generation int64
		problem    string
	}{
		"newer":                    {text(6, other), 6, ""},
		"newer, same content":      {text(6, someUpstream), 6, ""},
		"the same":                 {text(5, someUpstream), 5, ""},
		"same generation, another": {text(5, other), 5, "another content"},
		"older":                    {text(4, other), 5, "older than 5"},
		"absent":                   {"", 5, "missing"},
		"garbage":                  {"{", 5, "layout: "},
		"unknown schema":           {strings.Replace(text(6, other), "schema: 1", "schema: 99", 1), 5, "schema 99"},
		"no upstream":              {"schema: 1\ngeneration: 6\nmode: Direct\nhosts: {a.example.com: {mirrors: []}}\n", 5, "layout: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newTestLoaded(t)
			if s := l.apply(first); s.problem != nil || s.generation != 5 || l.ready() != nil {
				t.Fatalf("first: %+v, %v", s, l.ready())
			}
			s := l.apply(with(first, v1alpha1.KeyProxyLayout, tc.layout))
			if s.generation != tc.generation || l.table.Generation() != tc.generation {
				t.Errorf("generation %d, served %d; want %d", s.generation, l.table.Generation(), tc.generation)
			}
			if (s.problem == nil) != (tc.problem == "") || s.problem != nil && !strings.Contains(s.problem.Error(), tc.problem) {
				t.Errorf("problem %v, want %q", s.problem, tc.problem)
			}
			if l.ready() != nil {
				t.Errorf("not ready: %v", l.ready())
			}
			// A good one heals.
			if s := l.apply(content(t, 7, other)); s.problem != nil || s.generation != 7 {
				t.Errorf("after a good one: %+v", s)
			}
		})
	}
}

// The keys do not wait for each other.
func TestKeysAreIndependent(t *testing.T) {
	t.Parallel()
	l := newTestLoaded(t)
	first := content(t, 1, someUpstream)
	l.apply(first)
	next := content(t, 2, someUpstream)
	for _, key := range []string{v1alpha1.KeyProxyUsers, "tls.crt", "tls.key"} {
		if s := l.apply(with(next, key, "garbage")); s.generation != 2 || s.problem == nil {
			t.Errorf("%s broken: %+v", key, s)
		}
		if _, ok := l.users.Load().Verify("ro", clientPassword); !ok {
			t.Errorf("%s broken: users are lost", key)
		}
	}
	rotated := with(next, v1alpha1.KeyProxyUsers, fmt.Sprintf("- {name: ro, sha256: %s, role: client}\n", sum("rotated")))
	if s := l.apply(rotated); s.problem != nil {
		t.Errorf("rotated: %v", s.problem)
	}
	if _, ok := l.users.Load().Verify("ro", "rotated"); !ok {
		t.Error("rotated users are not used")
	}
	if _, ok := l.users.Load().Verify("ro", clientPassword); ok {
		t.Error("the old password is still good")
	}
}

func TestNotReadyBeforeAllIsThere(t *testing.T) {
	t.Parallel()
	for _, key := range []string{v1alpha1.KeyProxyLayout, v1alpha1.KeyProxyUsers, "tls.crt"} {
		l := newTestLoaded(t)
		if l.ready() == nil {
			t.Error("ready with nothing")
		}
		l.apply(with(content(t, 1, someUpstream), key, ""))
		if l.ready() == nil {
			t.Errorf("ready without %s", key)
		}
	}
}

func TestProblemsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	l := newTestLoaded(t)
	for key, value := range map[string]string{
		v1alpha1.KeyProxyUsers:  "- {name: ro, sha256: hunter2-secret, role: client}",
		v1alpha1.KeyProxyLayout: "schema: 1\ngeneration: x\nhosts: {a: {mirrors: [{host: b, scheme: https, auth: {password: hunter2-secret, username: [1]}}]}}",
	} {
		s := l.apply(with(content(t, 1, someUpstream), key, value))
		if s.problem == nil || strings.Contains(s.problem.Error(), "secret") {
			t.Errorf("%s: %v", key, s.problem)
		}
	}
}

// TestAnotherSchemaIsNoOtherLayout: what is published again in the other schema is the
// layout that is served, and nothing is wrong with it.
func TestAnotherSchemaIsNoOtherLayout(t *testing.T) {
	t.Parallel()
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	l := newLoaded(table, slog.New(slog.DiscardHandler))
	u := upstream.Upstream{Host: "a.example", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: strings.Repeat("p", 2000)}}
	data := content(t, 5, u)
	plain, err := layout.Decode(data[v1alpha1.KeyProxyLayout])
	if err != nil {
		t.Fatal(err)
	}
	for _, reads := range []int{layout.Newest, layout.Schema, layout.Newest} {
		encoded, err := layout.EncodeFor(plain, reads)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(encoded), fmt.Sprintf("\nschema: %d\n", reads)) {
			t.Fatalf("not in schema %d", reads)
		}
		data[v1alpha1.KeyProxyLayout] = encoded
		if s := l.apply(data); s.generation != 5 || s.problem != nil || s.version != plain.Version() {
			t.Errorf("schema %d: %+v", reads, s)
		}
	}
}

// TestNewCredentialsNeedNoGeneration, if they are provided: the proxy shows them to the
// registry at once.
func TestNewCredentialsNeedNoGeneration(t *testing.T) {
	t.Parallel()
	l := newTestLoaded(t)
	for _, password := range []string{"first", "second"} {
		u := someUpstream
		u.Credentials, u.Provided = upstream.Credentials{Username: "u", Password: password}, true
		if s := l.apply(content(t, 5, u)); s.problem != nil || s.generation != 5 {
			t.Fatalf("%s: %+v", password, s)
		}
		if got := l.layout.Target.Credentials.Password; got != password {
			t.Errorf("%q is shown, want %q", got, password)
		}
	}
}
