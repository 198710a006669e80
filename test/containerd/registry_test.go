package containerd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
	"github.com/d8-registry/registry/test/harness/parts"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

const (
	user     = "puller"
	password = `p"a:s\s ü`
)

// realRegistry is a process of distribution v3 with TLS, Basic or Bearer.
type realRegistry struct {
	host   string // localhost and port: token realms on IP literals are refused by pushing clients
	ca     string
	issuer *testregistry.TokenIssuer // nil with Basic
	stop   func()
}

// startRegistry runs .parts/bin/registry until the end of the test.
func startRegistry(t *testing.T, bearer bool) *realRegistry {
	t.Helper()
	parts.Need(t)
	binary, err := filepath.Abs("../../.parts/bin/registry")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skip("skipped: no distribution registry in .parts/bin; build it with `make parts`")
	}
	dir := t.TempDir()
	pair, ca, err := cert.SelfSigned("localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "tls.crt", []byte(ca))
	write(t, dir, "tls.key", keyPEM(t, pair))
	r := &realRegistry{host: freePort(t), ca: ca}
	auth := basicAuth(t, dir)
	if bearer {
		r.issuer = &testregistry.TokenIssuer{Issuer: "tokens", Service: "registry", Username: user, Password: password, Certificate: pair}
		auth = tokenAuth(t, dir, r.issuer, pair)
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %q}}\n"+
		"http: {addr: %q, secret: x, tls: {certificate: %q, key: %q}}\n%s",
		filepath.Join(dir, "data"), r.host, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), auth)
	write(t, dir, "config.yml", []byte(config))
	r.run(t, binary, filepath.Join(dir, "config.yml"))
	return r
}

func (r *realRegistry) run(t *testing.T, binary, config string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, binary, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed
		close(ended)
	}()
	r.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("registry %s:\n%s", r.host, output.String())
		}
	})
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.host)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("the registry ended:\n%s", output.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not listen: %v", err)
		}
	}
}

// tokenAuth starts a token server with the registry's own certificate.
func tokenAuth(t *testing.T, dir string, issuer *testregistry.TokenIssuer, cert tls.Certificate) string {
	t.Helper()
	s := httptest.NewUnstartedServer(issuer)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("auth: {token: {realm: \"https://localhost:%s/token\", service: registry, issuer: tokens, rootcertbundle: %q, signingalgorithms: [ES256]}}\n",
		port, filepath.Join(dir, "tls.crt"))
}

func basicAuth(t *testing.T, dir string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "htpasswd", []byte(user+":"+string(hash)+"\n"))
	return fmt.Sprintf("auth: {htpasswd: {realm: registry, path: %q}}\n", filepath.Join(dir, "htpasswd"))
}

func (r *realRegistry) push(t *testing.T, repo string, img v1.Image) {
	t.Helper()
	ref, err := name.NewTag(r.host + "/" + repo + ":v1")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(r.ca))
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer tr.CloseIdleConnections()
	err = remote.Write(ref, img, remote.WithTransport(tr), remote.WithContext(t.Context()),
		remote.WithAuth(&authn.Basic{Username: user, Password: password}))
	if err != nil {
		t.Fatal(err)
	}
}

func (r *realRegistry) upstream(path string) upstream.Upstream {
	return upstream.Upstream{
		Host: r.host, Path: path, Scheme: upstream.HTTPS, CA: r.ca,
		Credentials: upstream.Credentials{Username: user, Password: password},
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "localhost:" + port
}

func keyPEM(t *testing.T, cert tls.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey)) //nolint:forcetypeassert // SelfSigned makes no other
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

func write(t *testing.T, dir, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
