package containerd

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/upstream"
)

// endpoint is one that containerd would ask for a host's images.
type endpoint struct {
	url          string
	capabilities string
	token        string // the agent's
	auth         string // the Authorization header
	skipVerify   bool
	roots        *x509.CertPool // nil for the system's
}

func (p endpoint) equal(o endpoint) bool {
	same := p.roots == nil && o.roots == nil || p.roots != nil && o.roots != nil && p.roots.Equal(o.roots)
	p.roots, o.roots = nil, nil
	return p == o && same
}

func (p endpoint) String() string {
	out := p.url + " " + p.capabilities
	for _, more := range []struct {
		is   bool
		text string
	}{{p.token != "", "token"}, {p.auth != "", "authorization"}, {p.skipVerify, "any certificate"}, {p.roots != nil, "own CA"}} {
		if more.is {
			out += ", " + more.text
		}
	}
	return out
}

// read is what containerd's own code makes of a directory for one host, in its
// order.
func read(t testing.TB, dir, host string) []endpoint {
	t.Helper()
	out, err := tryRead(t, dir, host)
	if err != nil {
		t.Fatalf("containerd reads %s: %v", host, err)
	}
	return out
}

func tryRead(t testing.TB, dir, host string) ([]endpoint, error) {
	t.Helper()
	hosts, err := config.ConfigureHosts(t.Context(), config.HostOptions{HostDir: config.HostDirFromRoot(dir)})(host)
	if err != nil {
		return nil, err
	}
	out := make([]endpoint, 0, len(hosts))
	for _, h := range hosts {
		p := endpoint{
			url: h.Scheme + "://" + h.Host + h.Path, capabilities: capabilities(h.Capabilities),
			token: h.Header.Get(hostsdir.TokenHeader), auth: h.Header.Get("Authorization"),
		}
		if tr, ok := h.Client.Transport.(*http.Transport); ok && tr.TLSClientConfig != nil {
			p.skipVerify, p.roots = tr.TLSClientConfig.InsecureSkipVerify, tr.TLSClientConfig.RootCAs
		}
		out = append(out, p)
	}
	return out, nil
}

func capabilities(c docker.HostCapabilities) string {
	var out []string
	for _, k := range []struct {
		bit  docker.HostCapabilities
		name string
	}{{docker.HostCapabilityPull, "pull"}, {docker.HostCapabilityResolve, "resolve"}, {docker.HostCapabilityPush, "push"}} {
		if c.Has(k.bit) {
			out = append(out, k.name)
		}
	}
	return strings.Join(out, "+")
}

// meant is what containerd has to read for a host of a layout: written from
// what a layout means, not from how it is rendered.
func meant(t testing.TB, l layout.Layout, o hostsdir.Options, host string) []endpoint {
	t.Helper()
	agent := endpoint{url: o.AgentURL + "/v2", capabilities: "pull+resolve", token: o.Token, roots: pool(t, o.AgentCA)}
	ours := []endpoint{agent}
	// A registry that no upstream has may be gone.
	if l.Fallback != (layout.Fallback{}) && len(upstreamsAt(l, host)) == 0 {
		second := endpoint{url: "https://" + l.Fallback.Host + "/v2", capabilities: "pull+resolve", roots: pool(t, l.Fallback.CA)}
		if c := l.Fallback.Credentials; !c.IsZero() {
			second.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
		}
		ours = append(ours, second)
	}
	if host == layout.Fixed().Host {
		return append(ours, agent)
	}
	itself := endpoint{capabilities: "pull+resolve+push"}
	scheme, cas := upstream.HTTPS, []string{}
	for i, u := range upstreamsAt(l, host) {
		if i == 0 {
			scheme = u.Scheme
		}
		if u.Scheme == scheme && u.CA != "" {
			cas = append(cas, u.CA)
		}
	}
	if len(cas) > 0 {
		itself.roots = pool(t, cas...)
	}
	if host == "docker.io" || host == "index.docker.io" || host == "registry.hub.docker.com" {
		host = "registry-1.docker.io"
	}
	itself.url = fmt.Sprintf("%s://%s/v2", scheme, host)
	return append(ours, itself)
}

// upstreamsAt are a layout's upstreams with an address, the most wanted first.
func upstreamsAt(l layout.Layout, host string) []upstream.Upstream {
	all := []upstream.Upstream{l.Target, l.Active}
	for _, r := range l.Routes {
		all = append(all, r.Upstreams...)
	}
	var out []upstream.Upstream
	for _, u := range all {
		if u.Host == host {
			out = append(out, u)
		}
	}
	return out
}

func pool(t testing.TB, texts ...string) *x509.CertPool {
	t.Helper()
	p, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if !p.AppendCertsFromPEM([]byte(text)) {
			t.Fatalf("no certificate in %q", text)
		}
	}
	return p
}
