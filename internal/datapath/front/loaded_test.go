package front

import (
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

var someUpstream = upstream.Upstream{Host: "registry.example.com", Path: "team", Scheme: upstream.HTTPS}

func newTestLoaded(t *testing.T) *Loaded {
	t.Helper()
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	return NewLoaded(table, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func TestLayoutThatIsTaken(t *testing.T) {
	t.Parallel()
	other := someUpstream
	other.Host = "other.example.com"
	first := fronttest.Content(t, 5, someUpstream)
	text := func(generation int64, u ...upstream.Upstream) string {
		return string(fronttest.Content(t, generation, u...)[v1alpha1.KeyProxyLayout])
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
			if s := l.Apply(Content{Data: first}); s.Problem != nil || s.Generation != 5 || l.Ready() != nil {
				t.Fatalf("first: %+v, %v", s, l.Ready())
			}
			s := l.Apply(Content{Data: fronttest.With(first, v1alpha1.KeyProxyLayout, tc.layout)})
			if s.Generation != tc.generation || l.table.Generation() != tc.generation {
				t.Errorf("generation %d, served %d; want %d", s.Generation, l.table.Generation(), tc.generation)
			}
			if (s.Problem == nil) != (tc.problem == "") || s.Problem != nil && !strings.Contains(s.Problem.Error(), tc.problem) {
				t.Errorf("problem %v, want %q", s.Problem, tc.problem)
			}
			if l.Ready() != nil {
				t.Errorf("not ready: %v", l.Ready())
			}
			// A good one heals.
			if s := l.Apply(Content{Data: fronttest.Content(t, 7, other)}); s.Problem != nil || s.Generation != 7 {
				t.Errorf("after a good one: %+v", s)
			}
		})
	}
}

// The keys do not wait for each other.
func TestKeysAreIndependent(t *testing.T) {
	t.Parallel()
	l := newTestLoaded(t)
	first := fronttest.Content(t, 1, someUpstream)
	l.Apply(Content{Data: first})
	next := fronttest.Content(t, 2, someUpstream)
	for _, key := range []string{v1alpha1.KeyProxyUsers, "tls.crt", "tls.key"} {
		if s := l.Apply(Content{Data: fronttest.With(next, key, "garbage")}); s.Generation != 2 || s.Problem == nil {
			t.Errorf("%s broken: %+v", key, s)
		}
		if _, ok := l.users.Load().Verify("ro", fronttest.ClientPassword); !ok {
			t.Errorf("%s broken: users are lost", key)
		}
	}
	rotated := fronttest.With(next, v1alpha1.KeyProxyUsers, fmt.Sprintf("- {name: ro, sha256: %s, role: client}\n", fronttest.Sum("rotated")))
	if s := l.Apply(Content{Data: rotated}); s.Problem != nil {
		t.Errorf("rotated: %v", s.Problem)
	}
	if _, ok := l.users.Load().Verify("ro", "rotated"); !ok {
		t.Error("rotated users are not used")
	}
	if _, ok := l.users.Load().Verify("ro", fronttest.ClientPassword); ok {
		t.Error("the old password is still good")
	}
}

func TestNotReadyBeforeAllIsThere(t *testing.T) {
	t.Parallel()
	for _, key := range []string{v1alpha1.KeyProxyLayout, v1alpha1.KeyProxyUsers, "tls.crt"} {
		l := newTestLoaded(t)
		if l.Ready() == nil {
			t.Error("ready with nothing")
		}
		l.Apply(Content{Data: fronttest.With(fronttest.Content(t, 1, someUpstream), key, "")})
		if l.Ready() == nil {
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
		s := l.Apply(Content{Data: fronttest.With(fronttest.Content(t, 1, someUpstream), key, value)})
		if s.Problem == nil || strings.Contains(s.Problem.Error(), "secret") {
			t.Errorf("%s: %v", key, s.Problem)
		}
	}
}

// TestAnotherSchemaIsNoOtherLayout: what is published again in the other schema is the
// layout that is served, and nothing is wrong with it.
func TestAnotherSchemaIsNoOtherLayout(t *testing.T) {
	t.Parallel()
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	l := NewLoaded(table, slog.New(slog.DiscardHandler))
	u := upstream.Upstream{Host: "a.example", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: strings.Repeat("p", 2000)}}
	data := fronttest.Content(t, 5, u)
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
		if s := l.Apply(Content{Data: data}); s.Generation != 5 || s.Problem != nil || s.Version != plain.Version() {
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
		if s := l.Apply(Content{Data: fronttest.Content(t, 5, u)}); s.Problem != nil || s.Generation != 5 {
			t.Fatalf("%s: %+v", password, s)
		}
		if got := l.layout.Target.Credentials.Password; got != password {
			t.Errorf("%q is shown, want %q", got, password)
		}
	}
}

// TestIdentityIsWhatIsInUse: users and certificate of the source, and nothing while one
// of them was not taken.
func TestIdentityIsWhatIsInUse(t *testing.T) {
	t.Parallel()
	l := NewLoaded(routes.NewTable(nil), slog.New(slog.DiscardHandler))
	if got := l.Status().Identity; got != "" {
		t.Errorf("%q before there is content", got)
	}
	data := fronttest.Content(t, 1, upstream.Upstream{Host: "r.io", Path: "team", Scheme: upstream.HTTPS})
	want := regauth.Fingerprint(data[v1alpha1.KeyProxyUsers], data[KeyCertificate])
	if got := l.Apply(Content{Data: data}).Identity; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, key := range []string{v1alpha1.KeyProxyUsers, KeyCertificate} {
		broken := maps.Clone(data)
		broken[key] = []byte("x")
		if got := l.Apply(Content{Data: broken}).Identity; got != "" {
			t.Errorf("with %s broken: %q", key, got)
		}
		if got := l.Apply(Content{Data: data}).Identity; got != want {
			t.Errorf("after %s was put right: %q", key, got)
		}
	}
}
