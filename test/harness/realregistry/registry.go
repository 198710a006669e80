// Package realregistry runs distribution v3, as make parts builds it, for tests: with TLS,
// and with Basic or with tokens that a server of our own issues.
package realregistry

import (
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
	"regexp"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
	"github.com/d8-registry/registry/test/harness/parts"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// The one user.
const (
	User     = "puller"
	Password = `p"a:s\s ü`
)

// Registry is one process.
type Registry struct {
	Host   string // localhost and port: token realms on IP literals are refused by pushing clients
	CA     string
	Issuer *testregistry.TokenIssuer // nil with Basic
	// Stop ends it before the test does.
	Stop func()
}

// Start runs a registry until the end of the test.
func Start(t testing.TB, bearer bool) *Registry {
	t.Helper()
	binary := part(t)
	dir := t.TempDir()
	pair, ca, err := cert.SelfSigned("localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "tls.crt", []byte(ca))
	write(t, dir, "tls.key", keyPEM(t, pair))
	r := &Registry{CA: ca}
	auth := basicAuth(t, dir)
	if bearer {
		r.Issuer = &testregistry.TokenIssuer{Issuer: "tokens", Service: "registry", Username: User, Password: Password, Certificate: pair}
		auth = tokenAuth(t, dir, r.Issuer, pair)
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %q}}\n"+
		"http: {addr: \"localhost:0\", secret: x, tls: {certificate: %q, key: %q}}\n%s",
		filepath.Join(dir, "data"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), auth)
	write(t, dir, "config.yml", []byte(config))
	r.run(t, binary, filepath.Join(dir, "config.yml"))
	return r
}

var listening = regexp.MustCompile(`listening on \S+:(\d+), tls`)

// run starts the process, and waits until it listens.
func (r *Registry) run(t testing.TB, binary, config string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, binary, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	output, err := os.Create(config + ".log")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed
		_ = output.Close()
		close(ended)
	}()
	r.Stop = func() {
		cancel()
		<-ended
	}
	said := func() string {
		data, _ := os.ReadFile(output.Name())
		return string(data)
	}
	t.Cleanup(func() {
		r.Stop()
		if t.Failed() {
			t.Logf("registry %s:\n%s", r.Host, said())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		// It chooses its port: one that we chose could be somebody else's by then.
		if m := listening.FindStringSubmatch(said()); m != nil {
			r.Host = "localhost:" + m[1]
			return
		}
		select {
		case <-ended:
			t.Fatalf("the registry ended:\n%s", said())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not listen:\n%s", said())
		}
	}
}

// tokenAuth starts a token server with the registry's own certificate.
func tokenAuth(t testing.TB, dir string, issuer *testregistry.TokenIssuer, cert tls.Certificate) string {
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

func basicAuth(t testing.TB, dir string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(Password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "htpasswd", []byte(User+":"+string(hash)+"\n"))
	return fmt.Sprintf("auth: {htpasswd: {realm: registry, path: %q}}\n", filepath.Join(dir, "htpasswd"))
}

// Push stores an image or an index, with all that belongs to it, as repo:tag.
func (r *Registry) Push(t testing.TB, repo, tag string, img remote.Taggable) {
	t.Helper()
	ref, err := name.NewTag(r.Host + "/" + repo + ":" + tag)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(r.CA))
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer tr.CloseIdleConnections()
	err = remote.Push(ref, img, remote.WithTransport(tr), remote.WithContext(t.Context()),
		remote.WithAuth(&authn.Basic{Username: User, Password: Password}))
	if err != nil {
		t.Fatal(err)
	}
}

// Upstream is the registry below path, with its CA and credentials.
func (r *Registry) Upstream(path string) upstream.Upstream {
	return upstream.Upstream{
		Host: r.Host, Path: path, Scheme: upstream.HTTPS, CA: r.CA,
		Credentials: upstream.Credentials{Username: User, Password: Password},
	}
}

// part is the program that make parts built.
func part(t testing.TB) string {
	t.Helper()
	parts.Need(t)
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".parts/bin/registry")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Skip("skipped: no distribution registry in .parts/bin; build it with `make parts`")
	return ""
}

func keyPEM(t testing.TB, cert tls.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey)) //nolint:forcetypeassert // SelfSigned makes no other
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

func write(t testing.TB, dir, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
