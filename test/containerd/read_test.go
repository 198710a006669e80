package containerd

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
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

// plain is an endpoint without the certificates themselves.
func (a asked) plain() endpoint {
	p := endpoint{
		url: a.URL, capabilities: capabilities(docker.HostCapabilities(a.Capabilities)), skipVerify: a.SkipVerify,
		token: a.Header.Get(hostsdir.TokenHeader), auth: a.Header.Get("Authorization"),
	}
	if a.CAs > 0 {
		p.roots = x509.NewCertPool()
	}
	return p
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
// what a layout means, not from how it is rendered. stock is what it asks without us.
func meant(t testing.TB, l layout.Layout, o hostsdir.Options, host string, stock endpoint) []endpoint {
	t.Helper()
	agent := endpoint{url: o.AgentURL + "/v2", capabilities: "pull+resolve", token: o.Token, roots: pool(t, o.AgentCA)}
	var second []endpoint
	if l.Fallback != (layout.Fallback{}) {
		e := endpoint{url: "https://" + l.Fallback.Host + "/v2", capabilities: "pull+resolve", roots: pool(t, l.Fallback.CA)}
		if c := l.Fallback.Credentials; !c.IsZero() {
			e.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
		}
		second = append(second, e)
	}
	if host == layout.Fixed().Host {
		return slices.Concat([]endpoint{agent}, second, []endpoint{agent})
	}
	ours, known := asUpstream(t, l, host)
	switch {
	case !known: // it may be gone
		return slices.Concat([]endpoint{agent}, second, []endpoint{stock})
	case ours.equal(stock):
		return []endpoint{agent, stock}
	case len(second) > 0 && l.ActiveMode == "Direct": // the proxy is proved
		return slices.Concat([]endpoint{agent, stock}, second)
	default:
		return slices.Concat([]endpoint{agent, stock}, second, []endpoint{ours})
	}
}

// asUpstream is the registry at a host as the layout's upstreams have it.
func asUpstream(t testing.TB, l layout.Layout, host string) (e endpoint, known bool) {
	t.Helper()
	scheme, cas := upstream.HTTPS, []string{}
	for i, u := range upstreamsAt(l, host) {
		if known = true; i == 0 {
			scheme = u.Scheme
		}
		if u.Scheme == scheme && u.CA != "" {
			cas = append(cas, u.CA)
		}
	}
	if len(cas) > 0 {
		e.roots = pool(t, cas...)
	}
	if host == "docker.io" || host == "index.docker.io" || host == "registry.hub.docker.com" {
		host = "registry-1.docker.io"
	}
	e.url, e.capabilities = fmt.Sprintf("%s://%s/v2", scheme, host), "pull+resolve+push"
	return e, known
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
