package machine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/bcrypt"
	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/test/harness/cert"
)

// RegistryOptions describe an upstream registry.
type RegistryOptions struct {
	// Host is its name with an optional port, as in image references.
	Host string
	// Path is the repository that holds the platform.
	Path string
	// Bearer has it demand tokens of a token server; otherwise it takes Basic.
	Bearer bool
	// Users may pull: name to password.
	Users map[string]string
	// Writable lets them push too.
	Writable bool
}

// Registry is a real distribution registry, in a namespace of its own.
type Registry struct {
	RegistryOptions
	Space *Space
	// Log tells what was downloaded from it.
	Log *AccessLog
	// CA is the PEM of the authority that signed its certificate.
	CA string

	run      *Run
	binary   string
	process  *Process
	htpasswd string
	tokens   *tokenServer
}

// Base is what image references start with.
func (g *Registry) Base() string { return g.Host + "/" + g.Path }

// NewRegistry makes the namespace and the certificates: names must be known
// before the first node is made. Start starts it.
func NewRegistry(ctx context.Context, r *Run, n *Network, b Binaries, ca *cert.Authority, o RegistryOptions) (*Registry, error) {
	name := hostOf(o.Host)
	space, err := n.NewSpace(ctx, name)
	if err != nil {
		return nil, err
	}
	n.AddHost(space.IP, hostOf(o.Host))
	g := &Registry{RegistryOptions: o, Space: space, CA: ca.PEM, run: r, binary: b.Path("registry")}
	dir := r.Path(name)
	if err := ca.WriteServer(dir, hostOf(o.Host)); err != nil {
		return nil, err
	}
	auth, err := g.auth(ctx, ca, dir)
	if err != nil {
		return nil, err
	}
	config, err := yaml.Marshal(map[string]any{
		"version": 0.1,
		"log":     map[string]any{"level": "warn"},
		"storage": map[string]any{
			"filesystem":  map[string]any{"rootdirectory": filepath.Join(dir, "storage")},
			"maintenance": map[string]any{"readonly": map[string]any{"enabled": !o.Writable}},
		},
		"http": map[string]any{
			"addr": ":" + portOf(o.Host), "secret": "demo",
			"tls": map[string]any{"certificate": filepath.Join(dir, "tls.crt"), "key": filepath.Join(dir, "tls.key")},
		},
		"auth": auth,
	})
	if err != nil {
		return nil, fmt.Errorf("configure registry %s: %w", o.Host, err)
	}
	return g, writeFile(filepath.Join(dir, "config.yaml"), config, 0o600)
}

// Storage is where its images lie, for Platform.Fill.
func (g *Registry) Storage() string { return filepath.Join(g.dir(), "storage") }

func (g *Registry) dir() string { return g.run.Path(g.Space.Name) }

func (g *Registry) auth(ctx context.Context, ca *cert.Authority, dir string) (map[string]any, error) {
	if !g.Bearer {
		g.htpasswd = filepath.Join(dir, "htpasswd")
		return map[string]any{"htpasswd": map[string]any{"realm": g.Host, "path": g.htpasswd}}, g.SetUsers(g.Users)
	}
	tokens, err := startTokenServer(ctx, g.run, g.Space, ca, g.RegistryOptions)
	if err != nil {
		return nil, err
	}
	g.tokens = tokens
	bundle := filepath.Join(dir, "token.crt")
	return map[string]any{"token": map[string]any{
		"realm": tokens.realm, "service": tokens.service, "issuer": tokenIssuer, "rootcertbundle": bundle,
	}}, writeFile(bundle, tokens.cert, 0o644)
}

// SetUsers replaces the users that may pull, while the registry runs.
func (g *Registry) SetUsers(users map[string]string) error {
	g.Users = users
	if g.Bearer {
		g.tokens.setUsers(users)
		return nil
	}
	var lines strings.Builder
	for name, password := range users {
		// distribution hashes the password of every request: the cheapest will do.
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			return fmt.Errorf("hash a password of %s: %w", g.Host, err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", name, hash)
	}
	return writeFile(g.htpasswd, []byte(lines.String()), 0o600)
}

// Start starts the registry and returns when it answers.
func (g *Registry) Start(ctx context.Context) error {
	process, err := g.run.StartProcess(Command{
		Name: g.Space.Name, Space: g.Space, Path: g.binary,
		Args: []string{"serve", filepath.Join(g.dir(), "config.yaml")},
		Env:  []string{"OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none"},
	})
	if err != nil {
		return err
	}
	g.process = process
	if g.Log == nil {
		g.Log = newAccessLog(process.Log)
	}
	transport, err := g.Transport()
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport}
	return process.WaitReady(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+g.Host+"/v2/", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			err = fmt.Errorf("%s without credentials answers %s", g.Host, resp.Status)
		}
		return errors.Join(err, resp.Body.Close())
	})
}

// Stop switches the registry off: connections are refused from now on.
func (g *Registry) Stop() { g.process.Kill() }

// Running reports whether the registry is on.
func (g *Registry) Running() bool { return g.process != nil && g.process.Running() }

// Transport speaks to the registry, and to its token server, from inside its
// namespace.
func (g *Registry) Transport() (*http.Transport, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(g.CA)) {
		return nil, fmt.Errorf("CA of %s is no PEM", g.Host)
	}
	return &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return g.Space.DialContext(ctx, network, net.JoinHostPort(g.Space.IP.String(), port))
		},
	}, nil
}

func hostOf(hostport string) string {
	host, _, _ := strings.Cut(hostport, ":")
	return host
}

func portOf(hostport string) string {
	if _, port, ok := strings.Cut(hostport, ":"); ok {
		return port
	}
	return "443"
}
