package fronts

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/gateway"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/serve"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// Front is one that serves.
type Front struct {
	Address string // IP and port
	CA      string // that signed its certificate
	// Username and Password are what clients of the in-cluster proxy and of a store have; an agent's
	// have the node's token instead.
	Username, Password string
	token              string
	serverName         string // in the certificate, if it is not the address
}

const startTimeout = 20 * time.Second

// Layout routes the fixed address to the upstreams.
func Layout(upstreams ...upstream.Upstream) layout.Layout {
	return layout.Layout{
		Schema: layout.Schema, Generation: 1, Mode: "Direct", ActiveMode: "Direct", Active: upstreams[0], Target: upstreams[0],
		Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}},
	}
}

// Agent runs registry-agent's serving half until the end of the test.
func Agent(t testing.TB, api *apiserver.API, upstreams ...upstream.Upstream) *Front {
	t.Helper()
	return AgentOf(t, api, "", Layout(upstreams...))
}

// AgentOf is Agent on a node with a name, by a layout.
func AgentOf(t testing.TB, api *apiserver.API, node string, l layout.Layout) *Front {
	t.Helper()
	f := &Front{Address: loopback.Address(t)}
	dir := t.TempDir()
	cfg := serve.Config{Listen: f.Address, StateDir: dir, Kube: api.Config(), Secret: v1alpha1.SecretAgent, Name: node}
	cfg.Namespace = publish(t, api, cfg.Secret, map[string][]byte{v1alpha1.KeyLayout: encoded(t, l)})
	run(t, func(ctx context.Context, log *slog.Logger) error { return serve.Run(ctx, cfg, log) })
	listens(t, f.Address)
	folder := handoff.Existing(dir)
	token, err := folder.Token()
	if err != nil {
		t.Fatal(err)
	}
	if f.CA, err = folder.CA(); err != nil {
		t.Fatal(err)
	}
	f.token = token
	ready(t, "https://"+f.Address+"/readyz", f.TLS())
	return f
}

// Proxy runs registry-proxy until the end of the test.
func Proxy(t testing.TB, api *apiserver.API, upstreams ...upstream.Upstream) *Front {
	t.Helper()
	return ProxyOf(t, api, Layout(upstreams...))
}

// ProxyOf is Proxy by a layout.
func ProxyOf(t testing.TB, api *apiserver.API, l layout.Layout) *Front {
	t.Helper()
	f := &Front{Address: loopback.Address(t), Username: "ro", Password: "a password: of clients"}
	host, _, err := net.SplitHostPort(f.Address)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _, err := pki.EnsureLeaf(time.Now(), ca, pki.KeyPair{}, []string{host})
	if err != nil {
		t.Fatal(err)
	}
	f.CA = ca.Cert
	sum := sha256.Sum256([]byte(f.Password))
	cfg := gateway.Config{
		Kubeconfig: apiserver.Kubeconfig(t, api.Config()), Listen: f.Address, Health: loopback.Address(t),
		Pod: "registry-proxy", Secret: v1alpha1.SecretProxy, Drain: startTimeout, ReportEvery: time.Minute,
	}
	cfg.Namespace = publish(t, api, cfg.Secret, map[string][]byte{
		v1alpha1.KeyProxyLayout: encoded(t, l),
		v1alpha1.KeyProxyUsers:  fmt.Appendf(nil, "- {name: %s, sha256: %s, role: client}\n", f.Username, hex.EncodeToString(sum[:])),
		corev1.TLSCertKey:       []byte(leaf.Cert), corev1.TLSPrivateKeyKey: []byte(leaf.Key),
	})
	run(t, func(ctx context.Context, log *slog.Logger) error { return gateway.Run(ctx, cfg, log) })
	ready(t, "http://"+cfg.Health+"/readyz", nil)
	return f
}

func encoded(t testing.TB, l layout.Layout) []byte {
	t.Helper()
	data, err := layout.Encode(l)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// publish makes the Secret, in a namespace of its own.
func publish(t testing.TB, api *apiserver.API, name string, data map[string][]byte) (namespace string) {
	t.Helper()
	namespace = api.Namespace(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
	if err := api.Client().Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	return namespace
}

func run(t testing.TB, program func(context.Context, *slog.Logger) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- program(ctx, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it ended: %v", err)
		}
	})
}

func listens(t testing.TB, address string) {
	t.Helper()
	until(t, address+" listens", func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func ready(t testing.TB, at string, trust *tls.Config) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}
	until(t, at, func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(startTimeout); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TLS trusts the front.
func (f *Front) TLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(f.CA))
	return &tls.Config{RootCAs: roots, ServerName: f.serverName, MinVersion: tls.VersionTLS12}
}

// Transport asks the front as its own clients do: containerd shows an agent the node's
// token and says which registry is meant.
func (f *Front) Transport(t testing.TB) http.RoundTripper {
	inner := &http.Transport{TLSClientConfig: f.TLS()}
	t.Cleanup(inner.CloseIdleConnections)
	if f.token == "" {
		return inner
	}
	return asContainerd{inner, f.token}
}

type asContainerd struct {
	inner http.RoundTripper
	token string
}

func (c asContainerd) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Header.Set(hostsdir.TokenHeader, c.token)
	query := out.URL.Query()
	query.Set("ns", layout.Fixed().Host)
	out.URL.RawQuery = query.Encode()
	return c.inner.RoundTrip(out)
}
