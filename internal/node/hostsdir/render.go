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
	"github.com/d8-registry/registry/internal/node/hostsfile"
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
	// Containerd is the version that reads the tree; the newest if empty.
	Containerd string
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
		dir, err := directory(host, l, o, agent)
		if err != nil {
			return nil, fmt.Errorf("render host directory %s: %w", host, err)
		}
		tree = append(tree, dir)
	}
	slices.SortFunc(tree, func(a, b Directory) int { return strings.Compare(a.Host, b.Host) })
	return tree, nil
}

// directory sends containerd to the agent, and if that has no route or is down, to
// the registry as containerd would ask it without us, with the credentials of the
// pod: other repositories of the host are not ours, and nothing changes for them.
//
// For the fixed address the in-cluster proxy comes next, and as the last resort
// (`server`) the agent again: without a server containerd would ask the node's DNS
// for a name that only the cluster knows, and report that.
func directory(host string, l layout.Layout, o Options, agent endpoint) (Directory, error) {
	dir := Directory{Host: host, Fixed: host == layout.Fixed().Host, Files: []File{{fileAgentCA, agent.certificates}}}
	ways := []endpoint{agent}
	var second []endpoint // the in-cluster proxy, if there is one
	if l.Fallback != (layout.Fallback{}) {
		e, err := fallbackEndpoint(l.Fallback)
		if err != nil {
			return Directory{}, fmt.Errorf("second way: %w", err)
		}
		second = append(second, e)
	}
	if dir.Fixed {
		ways = append(append(ways, second...), agent)
	} else {
		more, clear, err := realWays(host, l, o, second)
		if err != nil {
			return Directory{}, err
		}
		if clear {
			dir.Warning = fmt.Sprintf(clearText, host)
		}
		ways = append(ways, more...)
	}
	var hosts []hostsfile.Table
	for i, w := range ways {
		if w.certificates != nil && w.CA[0] != fileAgentCA {
			dir.Files = append(dir.Files, File{w.CA[0], w.certificates})
		}
		if i < len(ways)-1 {
			hosts = append(hosts, w.Table)
		}
	}
	dir.Files = append(dir.Files, File{fileHosts, o.hostsTOML(ways[len(ways)-1].Table, hosts)})
	return dir, nil
}

// clearText is for a host of which realWays says so.
const clearText = "%[1]s is asked by plain HTTP where HTTPS fails, as no in-cluster proxy can stand in for the agent yet: " +
	"for other repositories of %[1]s too, with the pull secrets of their pods; set its scheme to HTTPS, or keep those pods' images elsewhere"

// realWays are where a real address is asked when the agent does not serve a pull.
// Whoever pulls another repository comes to the first: the registry as containerd
// would ask it without us. If that is not how we ask it, our path goes on by the
// in-cluster proxy, which serves nothing else. Only until that is proved, and in a
// mode without it, the registry is asked with our scheme and CA after all else has
// failed: containerd cannot tell paths apart. clear says that this is plain HTTP.
//
// A registry that the cluster does not use any more may be gone: then the
// in-cluster proxy comes before it.
func realWays(host string, l layout.Layout, o Options, second []endpoint) (ways []endpoint, clear bool, err error) {
	itself, known, err := registryItself(host, l)
	if err != nil {
		return nil, false, err
	}
	stock, skip := endpoint{}, false
	if stock.URL, skip = hostsfile.For(o.Containerd).Itself(host); skip {
		stock.SkipVerify = &skip
	}
	switch {
	case !known:
		return append(second, stock), false, nil
	case itself.URL == stock.URL && itself.CA == nil && !skip:
		return []endpoint{stock}, false, nil
	case l.FallbackProved():
		return append([]endpoint{stock}, second...), false, nil
	default:
		ways = append(append([]endpoint{stock}, second...), itself)
		return ways, strings.HasPrefix(itself.URL, "http:") && itself.URL != stock.URL, nil
	}
}

// registryItself is the registry behind a real address as the layout's routes ask
// it. During a switch several upstreams may have the host, with other credentials,
// paths or CAs: the target's scheme counts, and every CA of that scheme is trusted.
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
	e.URL = string(scheme) + "://" + upstream.HostOfAPI(host)
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
		e.CA, e.certificates = []string{fileServerCA}, append(e.certificates, data...)
	}
	return e, len(candidates) > 0, nil
}

// endpoint is one way that a hosts.toml names. Everything in it has been checked to
// need no escaping in TOML.
type endpoint struct {
	hostsfile.Table
	certificates []byte // content of the one file of CA
}

// ours is an endpoint of ours: containerd pushes elsewhere.
func ours(url, ca string, certificates []byte, header, value string) endpoint {
	e := endpoint{hostsfile.Table{URL: url, CA: []string{ca}, Capabilities: []string{"pull", "resolve"}}, certificates}
	if header != "" {
		e.Header = map[string][]string{header: {value}}
	}
	return e
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
	return ours(o.AgentURL, fileAgentCA, data, TokenHeader, o.Token), nil
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
	header, value := "", ""
	if !s.Credentials.IsZero() {
		// Base64 has no character that TOML could mistake for something else.
		header, value = "Authorization", "Basic "+s.Credentials.Auth()
	}
	return ours("https://"+s.Host, fileFallbackCA, data, header, value), nil
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

// hostsTOML is the file that containerd reads, in the form that its version reads.
func (o Options) hostsTOML(server hostsfile.Table, hosts []hostsfile.Table) []byte {
	return append([]byte(marker), hostsfile.For(o.Containerd).Write(server, hosts)...)
}
