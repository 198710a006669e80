package serve

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

func registryAt(host, password string) upstream.Upstream {
	return upstream.Upstream{Host: host, Path: "team", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: password}}
}

func published(generation int64, upstreams ...upstream.Upstream) layout.Layout {
	names := []layout.Name{layout.Fixed()}
	for _, u := range upstreams {
		names = append(names, layout.NameOf(u))
	}
	return layout.Layout{
		Schema: layout.Schema, Generation: generation, Mode: "Direct",
		Active: upstreams[0], Target: upstreams[0], Routes: layout.Cross(names, upstreams),
	}
}

func encode(t testing.TB, l layout.Layout) []byte {
	t.Helper()
	data, err := layout.Encode(l)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func open(t testing.TB, dir string) handoff.StateDir {
	t.Helper()
	folder, err := handoff.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func keeperIn(t testing.TB, dir string) *keeper {
	t.Helper()
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	return newKeeper(open(t, dir), table, slog.New(slog.DiscardHandler))
}

// TestOffer is the table of what an agent does with what is published. In
// every row the last good layout has generation 5; whatever is wrong changes
// neither routes nor disk, and is said.
func TestOffer(t *testing.T) {
	t.Parallel()
	good := published(5, registryAt("a.example.com", "first"))
	rotated := published(5, registryAt("a.example.com", "SECRET"))
	next := published(6, registryAt("b.example.com", "SECRET"), registryAt("a.example.com", "first"))
	for name, row := range map[string]struct {
		published  []byte
		absent     bool
		generation int64
		ahead      bool
		problem    string
	}{
		"higher":                    {published: encode(t, next), generation: 6},
		"the same":                  {published: encode(t, good), generation: 5},
		"lower":                     {published: encode(t, published(4, registryAt("a.example.com", "first"))), generation: 5, ahead: true, problem: "generation 4, lower than 5"},
		"same generation, other":    {published: encode(t, rotated), generation: 5, ahead: true, problem: "generation 5 was published again with other content"},
		"absent":                    {absent: true, generation: 5, problem: "there is no published layout"},
		"empty":                     {generation: 5, problem: "the published layout is empty"},
		"not YAML":                  {published: []byte("generation: [SECRET"), generation: 5, problem: "kept out"},
		"unknown schema":            {published: []byte(strings.Replace(string(encode(t, next)), "schema: 1", "schema: 3", 1)), generation: 5, problem: "schema 3"},
		"a name without upstream":   {published: []byte("schema: 1\ngeneration: 6\nmode: Direct\nhosts: {a.example.com: {mirrors: []}}\n"), generation: 5, problem: "kept out"},
		"a whole other document":    {published: []byte("hello: SECRET\n"), generation: 5, problem: "kept out"},
		"a lower one after a reset": {published: encode(t, published(1, registryAt("c.example.com", "SECRET"))), generation: 5, ahead: true, problem: "generation 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			k := keeperIn(t, dir)
			if err := k.offer(encode(t, good), true); err != nil {
				t.Fatal(err)
			}
			if err := k.offer(row.published, !row.absent); err != nil {
				t.Fatal(err)
			}
			status, _ := k.snapshot()
			if status.Generation != row.generation || status.Ahead != row.ahead || k.table.Generation() != row.generation {
				t.Errorf("%+v, table %d; want generation %d, ahead %t", status, k.table.Generation(), row.generation, row.ahead)
			}
			if (row.problem == "") != (status.Problem == "") || !strings.Contains(status.Problem, row.problem) || strings.Contains(status.Problem, "SECRET") {
				t.Errorf("problem %q, want %q", status.Problem, row.problem)
			}
			again, _ := keeperIn(t, dir).snapshot()
			if again.Generation != row.generation || again.Version != status.Version || again.Version == "" {
				t.Errorf("after a restart %+v, before %+v", again, status)
			}
			// What was wrong is forgotten when it is right again.
			if err := k.offer(encode(t, published(7, registryAt("a.example.com", "first"))), true); err != nil {
				t.Fatal(err)
			}
			if status, _ := k.snapshot(); status.Generation != 7 || status.Ahead || status.Problem != "" {
				t.Errorf("after a good one: %+v", status)
			}
		})
	}
}

// TestTheSchemaMayChangeAndTheLayoutNot: published in the other schema it is the same
// layout, which is told to nobody. The disk follows: when everybody is given schema 1,
// an older agent comes, which reads nothing else.
func TestTheSchemaMayChangeAndTheLayoutNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keeperIn(t, dir)
	l := published(5, registryAt("a.example.com", strings.Repeat("long", 200)), registryAt("b.example.com", "pw"))
	var before handoff.Status
	for i, reads := range []int{layout.Newest, layout.Schema, layout.Newest, layout.Schema} {
		data, err := layout.EncodeFor(l, reads)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.offer(data, true); err != nil {
			t.Fatal(err)
		}
		status, _ := k.snapshot()
		if i > 0 && status != before {
			t.Errorf("schema %d is news: %+v, before %+v", reads, status, before)
		}
		before = status
		if saved, err := os.ReadFile(filepath.Join(dir, "serve", "layout.yaml")); err != nil || string(saved) != string(data) {
			t.Errorf("schema %d is not on disk: %.60q, %v", reads, saved, err)
		}
	}
	// A disk that does not take it is tried again.
	if err := os.Remove(filepath.Join(dir, "serve", "layout.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "serve", "layout.yaml", "in-the-way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.offer(encode(t, l), true); err == nil {
		t.Error("no error although it is not on disk")
	}
}

func TestFreshNodeHasNoProblem(t *testing.T) {
	t.Parallel()
	k := keeperIn(t, t.TempDir())
	if err := k.offer(nil, false); err != nil {
		t.Fatal(err)
	}
	if status, _ := k.snapshot(); status.Generation != 0 || status.Problem != "" {
		t.Errorf("%+v", status)
	}
}

func TestStatusChangesWakeWaiters(t *testing.T) {
	t.Parallel()
	k := keeperIn(t, t.TempDir())
	first, changed := k.snapshot()
	if err := k.offer(encode(t, published(1, registryAt("a.example.com", "pw"))), true); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was woken")
	}
	second, changed := k.snapshot()
	if second.Revision == first.Revision {
		t.Error("the revision stayed")
	}
	if err := k.offer(encode(t, published(1, registryAt("a.example.com", "pw"))), true); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
		t.Error("woken for nothing")
	default:
	}
}

func TestFullDiskChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keeperIn(t, dir)
	if err := k.offer(encode(t, published(1, registryAt("a.example.com", "pw"))), true); err != nil {
		t.Fatal(err)
	}
	disk := k.state
	k.state = disk.On(refusing("layout.yaml.new"))
	next := encode(t, published(2, registryAt("b.example.com", "pw")))
	if err := k.offer(next, true); err == nil {
		t.Fatal("no error")
	}
	if status, _ := k.snapshot(); status.Generation != 1 || status.Problem == "" || k.table.Generation() != 1 {
		t.Errorf("%+v", status)
	}
	k.state = disk
	if err := k.offer(next, true); err != nil {
		t.Fatal(err)
	}
	if status, _ := k.snapshot(); status.Generation != 2 || status.Problem != "" {
		t.Errorf("%+v", status)
	}
}

func TestDamagedDiskIsNoEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "serve", "layout.yaml"), []byte("gen"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := keeperIn(t, dir)
	if status, _ := k.snapshot(); status.Generation != 0 || status.Problem == "" {
		t.Errorf("%+v", status)
	}
	if err := k.offer(encode(t, published(3, registryAt("a.example.com", "pw"))), true); err != nil {
		t.Fatal(err)
	}
	if status, _ := k.snapshot(); status.Generation != 3 || status.Problem != "" {
		t.Errorf("%+v", status)
	}
}

func TestStateIsClosedToOthers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	folder := open(t, dir)
	k := newKeeper(folder, routes.NewTable(nil), slog.New(slog.DiscardHandler))
	if err := k.offer(encode(t, published(1, registryAt("a.example.com", "pw"))), true); err != nil {
		t.Fatal(err)
	}
	if err := k.offer(encode(t, published(2, registryAt("b.example.com", "pw"))), true); err != nil {
		t.Fatal(err)
	}
	token, err := folder.EnsureTokens(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := folder.EnsureTokens(time.Now()); err != nil || again != token || len(token.Token) != 64 {
		t.Errorf("token %d long, again the same %t, %v", len(token.Token), again == token, err)
	}
	if _, err := newCertificate(folder, "127.0.0.1", time.Now); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "serve"))
	if err != nil || len(entries) < 5 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

func TestCertificateStaysWhenTheLeafIsRenewed(t *testing.T) {
	t.Parallel()
	folder := open(t, t.TempDir())
	first, err := newCertificate(folder, "127.0.0.1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	second, err := newCertificate(folder, "127.0.0.1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if first.ca != second.ca || first.leaf.Cert == second.leaf.Cert {
		t.Error("the CA must stay on disk, the leaf must not")
	}
}

// TestDamagedCAIsReplaced: only this node's containerd trusts it, and node tells
// containerd of the new one.
func TestDamagedCAIsReplaced(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ca.crt", "ca.key"} {
		dir := t.TempDir()
		folder := open(t, dir)
		first, err := newCertificate(folder, "127.0.0.1", time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "serve", name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		second, err := newCertificate(folder, "127.0.0.1", time.Now)
		if err != nil {
			t.Fatalf("%s damaged: %v", name, err)
		}
		saved, err := folder.CA()
		if err != nil || saved != second.ca.Cert || saved == first.ca.Cert {
			t.Errorf("%s damaged: the new CA is not on disk (%v)", name, err)
		}
	}
}

// The CA can sign for the address of loopback only, so another address needs another.
func TestAnotherListenAddressGetsAnotherCA(t *testing.T) {
	t.Parallel()
	folder := open(t, t.TempDir())
	first, err := newCertificate(folder, "127.0.0.1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if refused := first.ca.Refused([]string{"127.0.0.1", "localhost", "10.0.0.1", "registry.example.com"}); len(refused) != 2 {
		t.Errorf("refused: %v", refused)
	}
	second, err := newCertificate(folder, "127.0.0.2", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if second.ca == first.ca || len(second.ca.Refused([]string{"127.0.0.2"})) > 0 {
		t.Error("the CA cannot sign for the new address")
	}
}

// TestNewCredentialsNeedNoGeneration, if they are provided: they are on disk and shown to
// the registry at once, and nobody is told of a new layout. One that lets in nobody else
// any more is where that is seen.
func TestNewCredentialsNeedNoGeneration(t *testing.T) {
	t.Parallel()
	registry := testregistry.New(t, testregistry.Options{TLS: true, Username: "u", Password: "none"})
	registry.PushRandom(t, "team", "image", 1, 64)
	of := func(name string) layout.Layout {
		u := registry.Upstream("team")
		u.Credentials, u.Provided = upstream.Credentials{Username: name, Password: "password-of-" + name}, true
		return published(5, u)
	}
	dir := t.TempDir()
	k := keeperIn(t, dir)
	handler := proxy.New(k.table, proxy.Config{Log: slog.New(slog.DiscardHandler), DefaultHost: layout.Fixed().Host})
	var before handoff.Status
	for i, name := range []string{"first", "second", "third"} {
		registry.AddUser(name, "password-of-"+name)
		if err := k.offer(encode(t, of(name)), true); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			registry.RemoveUser([]string{"first", "second"}[i-1])
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/"+layout.Fixed().Path+"/manifests/image", nil))
		if answer.Code != http.StatusOK {
			t.Errorf("%s: %d %s", name, answer.Code, answer.Body)
		}
		status, _ := k.snapshot()
		if i > 0 && status != before {
			t.Errorf("%s is news: %+v, before %+v", name, status, before)
		}
		before = status
		if saved, err := open(t, dir).Layout(); err != nil || saved.Target.Credentials.Username != name {
			t.Errorf("on disk is %q, %v", saved.Target.Credentials.Username, err)
		}
	}
}
