package serve_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/serve"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

var server apiserver.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// agent is one serving half under test.
type agent struct {
	t      *testing.T
	cfg    serve.Config
	folder handoff.StateDir
	http   *http.Client
	token  string
	stop   func()
}

func start(t *testing.T, kube *rest.Config, namespace, dir string, changes ...func(*serve.Config)) *agent {
	t.Helper()
	a := &agent{t: t, cfg: serve.Config{
		Listen: loopback.Address(t), StateDir: dir, Kube: kube, Namespace: namespace, Secret: registryv1alpha1.SecretAgent,
	}}
	for _, change := range changes {
		change(&a.cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve.Run(ctx, a.cfg, slog.New(slog.DiscardHandler)) }()
	a.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		done <- nil
		loopback.Freed(a.cfg.Listen)
	}
	t.Cleanup(a.stop)
	folder, err := handoff.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a.folder = folder
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.Dial("tcp", a.cfg.Listen)
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case err := <-done:
			t.Fatal("serve ended:", err)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	ca, err := folder.CA()
	if err != nil {
		t.Fatal(err)
	}
	a.token, err = folder.Token()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	a.http = &http.Client{Transport: transport}
	return a
}

func (a *agent) client() *handoff.Client {
	a.t.Helper()
	c, err := handoff.NewClient("https://"+a.cfg.Listen, a.folder, hostsdir.TokenHeader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(c.Close)
	return c
}

// serves waits until a generation is served.
func (a *agent) serves(generation int64) handoff.Status {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	defer cancel()
	status, err := a.client().Wait(ctx, handoff.Status{Generation: generation - 1})
	if err != nil || status.Generation != generation {
		a.t.Fatalf("serving %+v, %v; want generation %d", status, err, generation)
	}
	return status
}

// get asks as containerd does for a reference of a host.
func (a *agent) get(token, path, ns string) (int, string) {
	a.t.Helper()
	return a.ask(20*time.Second, token, path, ns)
}

// ask gives up with status 0 when there is no answer in time.
func (a *agent) ask(limit time.Duration, token, path, ns string) (int, string) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+a.cfg.Listen+path+"?ns="+ns, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set(hostsdir.TokenHeader, token)
	}
	resp, err := a.http.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return 0, ""
	}
	if err != nil {
		a.t.Error(err)
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func layoutFor(t *testing.T, generation int64, u upstream.Upstream) []byte {
	t.Helper()
	data, err := layout.Encode(layout.Layout{
		Schema: layout.Schema, Generation: generation, Mode: "Direct", Active: u, Target: u,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(u)}, []upstream.Upstream{u}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const fixedHost = "registry.d8-system.svc:5001"

// TestServeFollowsTheSecret is the life of an agent on a real API server.
func TestServeFollowsTheSecret(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	ns := api.Namespace(t)
	r := testregistry.New(t, testregistry.Options{TLS: true, Username: "u", Password: "p"})
	r.PushRandom(t, "team/app", "v1", 1, 64)
	u := r.Upstream("team")

	dir := t.TempDir()
	a := start(t, api.Config(), ns, dir)
	if code, body := a.get(a.token, "/v2/system/deckhouse/app/manifests/v1", fixedHost); code != http.StatusServiceUnavailable {
		t.Errorf("without a layout: %d %s, want 503", code, body)
	}
	if code, _ := a.get("", "/readyz", ""); code != http.StatusServiceUnavailable {
		t.Errorf("ready without a layout: %d", code)
	}

	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: registryv1alpha1.SecretAgent},
		Data:       map[string][]byte{"config": layoutFor(t, 3, u)},
	}
	if err := api.Client().Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	a.serves(3)
	if code, body := a.get(a.token, "/v2/system/deckhouse/app/manifests/v1", fixedHost); code != http.StatusOK {
		t.Errorf("pull: %d %s", code, body)
	}
	for _, path := range []string{"/v2/", "/v2/system/deckhouse/app/manifests/v1", "/-/generation"} {
		for _, token := range []string{"", "wrong", a.token + "x"} {
			code, body := a.get(token, path, fixedHost)
			var oci struct{ Errors []struct{ Code string } }
			if code != http.StatusForbidden || json.Unmarshal([]byte(body), &oci) != nil || len(oci.Errors) != 1 {
				t.Errorf("%s with token %q: %d %s, want 403 with an OCI error", path, token, code, body)
			}
		}
	}
	if code, _ := a.get(a.token, "/v2/other/app/manifests/v1", u.Host); code != http.StatusNotFound {
		t.Errorf("outside of every name: %d, want 404", code)
	}

	good := a.serves(3)
	secret.Data["config"] = []byte("broken")
	if err := api.Client().Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	status, err := a.client().Wait(t.Context(), good)
	if err != nil || status.Generation != 3 || status.Problem == "" {
		t.Errorf("broken: %+v, %v", status, err)
	}
	if err := api.Client().Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	status, err = a.client().Wait(t.Context(), status)
	if err != nil || status.Generation != 3 || status.Problem == "" {
		t.Errorf("deleted: %+v, %v", status, err)
	}
	a.stop()

	// A reboot while the API server is away.
	away := rest.CopyConfig(api.Config())
	away.Host = "https://127.0.0.1:1"
	b := start(t, away, ns, dir)
	b.serves(3)
	if b.token != a.token {
		t.Error("another token: hosts.toml would have to be rewritten")
	}
	if code, body := b.get(b.token, "/v2/system/deckhouse/app/manifests/v1", fixedHost); code != http.StatusOK {
		t.Errorf("pull after a reboot: %d %s", code, body)
	}
}

func TestNothingButLoopback(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:5001", ":5001", "10.0.0.1:5001", "localhost:5001", "127.0.0.1"} {
		err := serve.Run(t.Context(), serve.Config{Listen: listen, StateDir: filepath.Join(t.TempDir(), "x")}, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Errorf("%s: served", listen)
		}
	}
}

func TestProofs(t *testing.T) {
	t.Parallel()
	a := start(t, &rest.Config{Host: "https://127.0.0.1:1"}, "none", t.TempDir())
	c := a.client()
	const nonce = "uid.7.ABCDEFGHIJKLMNOP"
	pull := func(token, nonce, ns, repository string) int {
		code, _ := a.ask(500*time.Millisecond, token, "/v2/"+repository+"/registry-proof/manifests/"+nonce, ns)
		return code
	}
	for name, row := range map[string]struct {
		pull func(nonce string) int
		code int
		seen bool
	}{
		"arrives":       {func(n string) int { return pull(a.token, n, fixedHost, "system/deckhouse") }, 0, true},
		"no token":      {func(n string) int { return pull("", n, fixedHost, "system/deckhouse") }, 403, false},
		"wrong token":   {func(n string) int { return pull("x", n, fixedHost, "system/deckhouse") }, 403, false},
		"another host":  {func(n string) int { return pull(a.token, n, "other.example.com", "system/deckhouse") }, 404, false},
		"another path":  {func(n string) int { return pull(a.token, n, fixedHost, "other") }, 404, false},
		"another nonce": {func(n string) int { return pull(a.token, n+"x", fixedHost, "system/deckhouse") }, 404, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := nonce + "." + filepath.Base(t.Name())
			if err := c.Expect(t.Context(), n, layout.Fixed()); err != nil {
				t.Fatal(err)
			}
			if err := c.Expect(t.Context(), n, layout.Fixed()); err == nil {
				t.Error("expected twice")
			}
			if code := row.pull(n); code != row.code {
				t.Errorf("answered %d, want %d", code, row.code)
			}
			if seen, err := c.Seen(t.Context(), n, 0); err != nil || seen.Seen != row.seen || (seen.Peer != "") != row.seen {
				t.Errorf("seen %+v, %v; want %t", seen, err, row.seen)
			}
			if seen, err := c.Seen(t.Context(), n, 0); err != nil || seen.Seen {
				t.Errorf("seen again: %+v, %v", seen, err)
			}
			if code := pull(a.token, n, fixedHost, "system/deckhouse"); code != http.StatusNotFound {
				t.Errorf("a used nonce is answered with %d", code)
			}
		})
	}
	// A late retry of a pull that was seen once says nothing of what is asked now.
	for _, n := range []string{"old.1.ABCDEFGHIJKLMNOP", "new.2.ABCDEFGHIJKLMNOP"} {
		if err := c.Expect(t.Context(), n, layout.Fixed()); err != nil {
			t.Fatal(err)
		}
		pull(a.token, "old.1.ABCDEFGHIJKLMNOP", fixedHost, "system/deckhouse")
		if seen, err := c.Seen(t.Context(), n, 0); err != nil || seen.Seen != strings.HasPrefix(n, "old") {
			t.Errorf("%s after a pull of the old one: %+v, %v", n, seen, err)
		}
	}
	if err := c.Expect(t.Context(), "late.1.ABCDEFGHIJKLMNOP", layout.Fixed()); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		<-time.After(50 * time.Millisecond)
		pull(a.token, "late.1.ABCDEFGHIJKLMNOP", fixedHost, "system/deckhouse")
	}()
	if seen, err := c.Seen(t.Context(), "late.1.ABCDEFGHIJKLMNOP", 10*time.Second); err != nil || !seen.Seen {
		t.Errorf("waiting: %+v, %v", seen, err)
	}
}
