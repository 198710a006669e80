package serve_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestMirrors is what node hands over: served as soon as node says so, kept
// over a restart, and not lost when what comes next cannot be used.
func TestMirrors(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	dir := t.TempDir()
	r := testregistry.New(t, testregistry.Options{TLS: true, Username: "u", Password: "p"})
	r.PushRandom(t, "tool", "v1", 1, 100)
	a := start(t, api.Config(), api.Namespace(t), dir)
	get := func(a *agent, token string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+a.cfg.Listen+"/v2/tool/manifests/v1?ns=registry.io", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(hostsdir.TokenHeader, token)
		resp, err := a.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	want := func(a *agent, what string, status int) {
		t.Helper()
		if got := get(a, a.token); got != status {
			t.Errorf("%s: %d, want %d", what, got, status)
		}
	}
	client := func(a *agent) *handoff.Client {
		t.Helper()
		c, err := handoff.NewClient("https://"+a.cfg.Listen, a.folder, hostsdir.TokenHeader)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	save := func(hosts []upstream.UserHost, wantChange bool) {
		t.Helper()
		if changed, err := a.folder.SaveMirrors(hosts); err != nil || changed != wantChange {
			t.Errorf("changed %t, %v", changed, err)
		}
	}
	want(a, "nothing said", http.StatusServiceUnavailable)
	save(nil, false)
	hosts := []upstream.UserHost{{Name: "registry.io", Mirrors: []upstream.Mirror{{Upstream: r.Upstream(""), Root: "/v2"}}}}
	save(hosts, true)
	save(hosts, false)
	want(a, "saved, but node did not say so", http.StatusServiceUnavailable)
	if err := client(a).Mirrors(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(a, "told", http.StatusOK)
	if got := get(a, "wrong"); got != http.StatusForbidden {
		t.Errorf("without the node token: %d", got)
	}
	info, err := os.Stat(filepath.Join(dir, "mirrors.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("who may read the passwords: %v, %v", info.Mode(), err)
	}
	a.stop()
	b := start(t, api.Config(), a.cfg.Namespace, dir)
	want(b, "after a restart", http.StatusOK)
	bad := []upstream.UserHost{{Name: "registry.io", Mirrors: []upstream.Mirror{{Upstream: r.Upstream(""), Root: "/v2", Rewrites: []upstream.Rewrite{{Regex: "("}}}}}}
	save(bad, true)
	if err := client(b).Mirrors(t.Context()); err == nil {
		t.Error("what cannot be used is taken")
	}
	want(b, "after what cannot be used", http.StatusOK)
	if err := os.WriteFile(filepath.Join(dir, "mirrors.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := client(b).Mirrors(t.Context()); err == nil {
		t.Error("a damaged file is taken")
	}
	want(b, "after a damaged file", http.StatusOK)
	save(nil, true)
	if err := client(b).Mirrors(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(b, "taken away", http.StatusServiceUnavailable)
}
