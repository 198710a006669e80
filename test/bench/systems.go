package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"embed"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

//go:embed conf
var conf embed.FS

// The names in the tables.
const (
	bare  = "upstream alone"
	nginx = "nginx"
	cache = "distribution"
	ours  = "ours"
)

// upstreamName is in the upstream's certificate beside its address: nginx checks names only.
const upstreamName = "upstream.bench"

// system is one of the programs that are compared, ready to be asked.
type system struct {
	name    string
	dir     string // of nginx
	address string
	tls     *tls.Config // nil without
	path    string      // of the repository
	more    string      // query and headers that it needs, as text of a request
	query   string
	process *process
	idle    int64 // resident bytes before the first request
}

// request is what a client sends.
func (s *system) request(method, what, header string) []byte {
	return []byte(method + " /v2/" + s.path + what + s.query + " HTTP/1.1\r\nHost: " + s.address + "\r\nUser-Agent: bench\r\n" + s.more + header + "\r\n")
}

// place is where the systems of one mode run.
type place struct {
	dir     string
	content content
	tools   tools
	secured bool
	counted bool // the upstream notes what it sends
	twice   bool // the upstream stands behind the name twice, so that layers are hashed
	ca      *cert.Authority
	up      *system
	all     []*system
}

// tools are paths of programs.
type tools struct{ nginx, registry, agent, store, self string }

// settle is the time until what a program needed to start is through.
const settle = 3 * time.Second

// open starts the upstream and everything in front of it.
func open(ctx context.Context, dir string, secured bool, c content, t tools) (*place, error) {
	ca, err := cert.NewAuthority("bench")
	if err != nil {
		return nil, err
	}
	p := &place{dir: dir, content: c, tools: t, secured: secured, ca: ca}
	return p, p.start(ctx, p.upstream, p.nginx, p.distribution, p.ours)
}

// start starts programs, and measures them while they are idle.
func (p *place) start(ctx context.Context, all ...func(context.Context) (*system, error)) error {
	for _, startOne := range all {
		s, err := startOne(ctx)
		if err != nil {
			p.close()
			return err
		}
		p.all = append(p.all, s)
	}
	<-time.After(settle)
	for _, s := range p.all {
		var err error
		if s.idle, err = s.process.memory("VmRSS"); err != nil {
			p.close()
			return err
		}
	}
	return nil
}

func (p *place) close() {
	for _, s := range p.all {
		s.process.stop()
	}
}

// folder makes that of one system, with certificates, and the address for it.
func (p *place) folder(name string) (dir, address string, err error) {
	dir = filepath.Join(p.dir, name)
	address, err = free()
	if err != nil {
		return "", "", err
	}
	host, _, _ := net.SplitHostPort(address) // it was made by JoinHostPort
	return dir, address, errors.Join(
		p.ca.WriteServer(dir, host, upstreamName),
		os.MkdirAll(filepath.Join(dir, "tmp"), 0o750),
		os.WriteFile(filepath.Join(dir, "ca.crt"), []byte(p.ca.PEM), 0o600))
}

// free is an address on which nobody listens. The IP is ours alone, so that nobody will.
func free() (string, error) {
	ip := make(net.IP, net.IPv4len)
	_, _ = rand.Read(ip) // it never fails
	ip[0], ip[1], ip[3] = 127, ip[1]|1, ip[3]|1
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip})
	if err != nil {
		return "", fmt.Errorf("find an address: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// configure writes a configuration of conf.
func (p *place) configure(file, dir, address string, more map[string]any) (string, error) {
	text, err := template.ParseFS(conf, "conf/"+file)
	if err != nil {
		return "", fmt.Errorf("configuration %s: %w", file, err)
	}
	at := filepath.Join(dir, file)
	out, err := os.Create(at)
	if err != nil {
		return "", fmt.Errorf("configuration %s: %w", file, err)
	}
	values := map[string]any{
		"Dir": dir, "Listen": address, "TLS": p.secured,
		"Root": p.content.root, "Manifest": p.content.manifest, "Slow": p.content.blobs[slowSize], "UpstreamName": upstreamName,
		"Count": p.counted,
	}
	maps.Copy(values, more)
	if p.up != nil {
		values["Upstream"] = p.up.address
	}
	return at, errors.Join(text.Execute(out, values), out.Close())
}

func (p *place) upstream(ctx context.Context) (*system, error) {
	s, err := p.nginxWith(ctx, bare, "upstream.conf", nil)
	p.up = s
	return s, err
}

func (p *place) nginx(ctx context.Context) (*system, error) {
	return p.nginxWith(ctx, nginx, "nginx.conf", nil)
}

func (p *place) nginxWith(ctx context.Context, name, file string, more map[string]any) (*system, error) {
	dir, address, err := p.folder(strings.ReplaceAll(name, " ", "-"))
	if err != nil {
		return nil, err
	}
	at, err := p.configure(file, dir, address, more)
	if err != nil {
		return nil, err
	}
	run, err := start(ctx, name, address, nil, p.tools.nginx, "-e", "stderr", "-p", dir, "-c", at)
	return &system{name: name, dir: dir, address: address, tls: p.clientTLS(address, p.ca.PEM), path: repository, process: run}, err
}

func (p *place) distribution(ctx context.Context) (*system, error) {
	return p.distributionIn(ctx, "distribution")
}

func (p *place) distributionIn(ctx context.Context, folder string) (*system, error) {
	dir, address, err := p.folder(folder)
	if err != nil {
		return nil, err
	}
	at, err := p.configure("distribution.yml", dir, address, nil)
	if err != nil {
		return nil, err
	}
	env := []string{"OTEL_TRACES_EXPORTER=none", "SSL_CERT_FILE=" + filepath.Join(dir, "ca.crt")}
	run, err := start(ctx, cache, address, env, p.tools.registry, "serve", at)
	return &system{name: cache, address: address, tls: p.clientTLS(address, p.ca.PEM), path: repository, process: run}, err
}

// layout routes the platform's name to the upstream.
func (p *place) layout() layout.Layout {
	u := upstream.Upstream{Host: p.up.address, Path: "bench", Scheme: upstream.HTTP}
	if p.secured {
		u.Scheme, u.CA = upstream.HTTPS, p.ca.PEM
	}
	route := layout.Route{Name: layout.Fixed(), Upstreams: []upstream.Upstream{u}}
	if other := u; p.twice {
		other.Credentials = upstream.Credentials{Username: "other", Password: "other"}
		route.Upstreams = append(route.Upstreams, other)
	}
	return layout.Layout{
		Schema: layout.Schema, Generation: 1, Mode: "Direct", ActiveMode: "Direct", Active: u, Target: u,
		Routes: []layout.Route{route},
	}
}

func (p *place) ours(ctx context.Context) (*system, error) {
	dir, address, err := p.folder("ours")
	if err != nil {
		return nil, err
	}
	published, err := layout.Encode(p.layout())
	if err != nil {
		return nil, err
	}
	s := &system{
		name: ours, address: address, query: "?ns=" + url.QueryEscape(layout.Fixed().Host),
		path: layout.Fixed().Path + strings.TrimPrefix(repository, "bench"),
	}
	if !p.secured {
		at := filepath.Join(dir, "layout.json")
		if err := os.WriteFile(at, published, 0o600); err != nil {
			return nil, fmt.Errorf("start ours: %w", err)
		}
		s.process, err = start(ctx, ours, address, nil, p.tools.self, "serve", "-listen", address, "-layout", at)
		return s, err
	}
	kubeconfig, err := serveLayout(dir, published)
	if err != nil {
		return nil, err
	}
	state := filepath.Join(dir, "state")
	s.process, err = start(ctx, ours, address, []string{"MEMORY_LIMIT=1073741824"}, p.tools.agent,
		"serve", "-listen", address, "-state-dir", state, "-kubeconfig", kubeconfig)
	if err != nil {
		return nil, err
	}
	folder := handoff.Existing(state)
	token, errToken := folder.Token()
	ca, errCA := folder.CA()
	s.more = hostsdir.TokenHeader + ": " + token + "\r\n"
	s.tls = p.clientTLS(address, ca)
	return s, errors.Join(errToken, errCA)
}

func (p *place) clientTLS(address, ca string) *tls.Config {
	if !p.secured {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	host, _, _ := net.SplitHostPort(address) // of free
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13, ServerName: host}
}
