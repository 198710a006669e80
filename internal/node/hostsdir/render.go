package hostsdir

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// TokenHeader carries the node token from containerd to the agent, so that no
// other process of the node can pull with the cluster's credentials.
const TokenHeader = "X-Registry-Node-Token"

// Options are what a tree needs besides the layout. They differ from node to
// node, and do not change on a node.
type Options struct {
	AgentURL string // https with host and port: "https://127.0.0.1:5001"
	Token    string // value of TokenHeader
	AgentCA  string // PEM; what the agent's certificate chains to
}

// String keeps the token out of logs.
func (o Options) String() string { return "hostsdir.Options(" + o.AgentURL + ")" }

// GoString keeps the token out of %#v.
func (o Options) GoString() string { return o.String() }

var tokenValue = regexp.MustCompile(`^[0-9A-Za-z_=-]{16,256}$`)

// Render is the tree of a layout: one directory for each host. A layout without
// routes is an empty tree. Credentials of upstreams are in no tree: only the agent
// uses them.
func Render(l layout.Layout, o Options) (Tree, error) {
	agent, err := o.agent()
	if err != nil {
		return nil, fmt.Errorf("render host directories: %w", err)
	}
	hosts := map[string]bool{}
	for _, r := range l.Routes {
		hosts[r.Name.Host] = true
	}
	tree := make(Tree, 0, len(hosts))
	for host := range hosts {
		if !hostName.MatchString(host) {
			return nil, fmt.Errorf("render host directories: %q is no registry host", host)
		}
		dir, err := directory(host, l, agent)
		if err != nil {
			return nil, fmt.Errorf("render host directory %s: %w", host, err)
		}
		tree = append(tree, dir)
	}
	slices.SortFunc(tree, func(a, b Directory) int { return strings.Compare(a.Host, b.Host) })
	return tree, nil
}

// directory sends containerd to the agent, and if that has no route or is down, to
// the registry itself, with the credentials of the pod. A registry that the
// cluster does not use any more may be gone: then the in-cluster proxy comes
// before it.
//
// For the fixed address the in-cluster proxy comes next, and as the last resort
// (`server`) the agent again: without a server containerd would ask the node's DNS
// for a name that only the cluster knows, and report that.
func directory(host string, l layout.Layout, agent endpoint) (Directory, error) {
	server, known, fixed := agent, false, host == layout.Fixed().Host
	if !fixed {
		var err error
		if server, known, err = registryItself(host, l); err != nil {
			return Directory{}, err
		}
	}
	dir := Directory{Host: host, Fixed: fixed, Files: []File{{fileAgentCA, agent.certificates}}}
	hosts := []endpoint{agent}
	if !known && l.Fallback != (layout.Fallback{}) {
		second, err := fallbackEndpoint(l.Fallback)
		if err != nil {
			return Directory{}, fmt.Errorf("second way: %w", err)
		}
		hosts = append(hosts, second)
		dir.Files = append(dir.Files, File{fileFallbackCA, second.certificates})
	}
	if server.ca == fileServerCA {
		dir.Files = append(dir.Files, File{fileServerCA, server.certificates})
	}
	dir.Files = append(dir.Files, File{fileHosts, hostsTOML(server, hosts)})
	return dir, nil
}

// registryItself is the registry behind a real address. During a switch several
// upstreams may have the host, with other credentials, paths or CAs: the target's
// scheme counts, and every CA of that scheme is trusted.
//
// known is false if no upstream has the host: its name is kept only because
// references use it, and other registries serve it.
func registryItself(host string, l layout.Layout) (e endpoint, known bool, err error) {
	candidates := []upstream.Upstream{l.Target, l.Active}
	for _, r := range l.Routes {
		candidates = append(candidates, r.Upstreams...)
	}
	candidates = slices.DeleteFunc(candidates, func(u upstream.Upstream) bool { return u.Host != host })
	// Without candidates only the address is known.
	scheme := upstream.HTTPS
	if len(candidates) > 0 {
		scheme = candidates[0].Scheme
	}
	if scheme != upstream.HTTP && scheme != upstream.HTTPS {
		return endpoint{}, false, fmt.Errorf("scheme %q is neither http nor https", scheme)
	}
	// No capabilities means all: what a registry can do is not our decision.
	e = endpoint{url: string(scheme) + "://" + upstream.HostOfAPI(host)}
	var seen []string
	for _, u := range candidates {
		if u.Scheme != upstream.HTTPS || scheme != upstream.HTTPS || u.CA == "" || slices.Contains(seen, u.CA) {
			continue
		}
		seen = append(seen, u.CA)
		data, err := certificates(u.CA)
		if err != nil {
			return endpoint{}, false, err
		}
		e.ca, e.certificates = fileServerCA, append(e.certificates, data...)
	}
	return e, len(candidates) > 0, nil
}

// endpoint is one `host` of a hosts.toml. Everything in it has been checked to
// need no escaping in TOML.
type endpoint struct {
	url          string
	ca           string // file name; empty for the system's roots
	certificates []byte // content of ca
	header       string // "" for none
	value        string
	pullOnly     bool // one of ours: containerd pushes elsewhere
}

func (o Options) agent() (endpoint, error) {
	u, err := url.Parse(o.AgentURL)
	if err != nil {
		return endpoint{}, errors.New("the agent's address is no URL")
	}
	if u.Scheme != "https" || !validAddress(u.Host) || o.AgentURL != "https://"+u.Host {
		return endpoint{}, fmt.Errorf("the agent's address %q is not https://ip:port", o.AgentURL)
	}
	if !tokenValue.MatchString(o.Token) {
		return endpoint{}, errors.New("the node token is empty or has characters that it must not have")
	}
	data, err := certificates(o.AgentCA)
	if err != nil {
		return endpoint{}, fmt.Errorf("the agent's CA: %w", err)
	}
	return endpoint{url: o.AgentURL, ca: fileAgentCA, certificates: data, header: TokenHeader, value: o.Token, pullOnly: true}, nil
}

func fallbackEndpoint(s layout.Fallback) (endpoint, error) {
	if !validAddress(s.Host) {
		return endpoint{}, fmt.Errorf("%q is not ip:port", s.Host)
	}
	data, err := certificates(s.CA)
	if err != nil {
		return endpoint{}, err
	}
	if problem := s.Credentials.Problem(); problem != "" {
		return endpoint{}, errors.New(problem)
	}
	e := endpoint{url: "https://" + s.Host, ca: fileFallbackCA, certificates: data, pullOnly: true}
	if !s.Credentials.IsZero() {
		// Base64 has no character that TOML could mistake for something else.
		e.header, e.value = "Authorization", "Basic "+s.Credentials.Auth()
	}
	return e, nil
}

// validAddress reports whether an address is ip:port, which needs no DNS.
func validAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) == nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && net.JoinHostPort(host, port) == address
}

// certificates keeps only the certificates of a PEM text, so that nothing else of
// it reaches the node's disk.
func certificates(text string) ([]byte, error) {
	var out []byte
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the CA has a %q block, want certificates only", block.Type)
		}
		// containerd fails every pull of the host if it cannot read one of them.
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("read a certificate of the CA: %w", err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if len(out) == 0 {
		return nil, errors.New("the CA holds no PEM certificate")
	}
	return out, nil
}

// hostsTOML is the file that containerd reads. Without the line `[host]` before
// the hosts, older versions read these in any order.
func hostsTOML(server endpoint, hosts []endpoint) []byte {
	var b strings.Builder
	b.WriteString(marker)
	fmt.Fprintf(&b, "server = %q\n", server.url)
	server.write(&b, "")
	b.WriteString("\n[host]\n")
	for _, h := range hosts {
		h.writeTable(&b)
	}
	return []byte(b.String())
}

// writeTable writes a host.
func (e endpoint) writeTable(b *strings.Builder) {
	table := fmt.Sprintf("host.%q", e.url)
	fmt.Fprintf(b, "\n[%s]\n", table)
	e.write(b, table+".")
}

// write writes what `server` and every host have in common.
func (e endpoint) write(b *strings.Builder, prefix string) {
	if e.pullOnly {
		b.WriteString("capabilities = [\"pull\", \"resolve\"]\n")
	}
	if e.ca != "" {
		fmt.Fprintf(b, "ca = %q\n", e.ca)
	}
	if e.header != "" {
		fmt.Fprintf(b, "\n[%sheader]\n%s = %q\n", prefix, e.header, e.value)
	}
}
