package usermirror

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
)

// endpointReader reads one [host."…"], or the top of the file for the server.
type endpointReader struct {
	*fileReader
	at  []string // the path of the table in the file
	out Endpoint
}

var hostPattern = regexp.MustCompile(`^(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$`)

// read fills in everything. It is false if containerd cannot read the file.
func (r *endpointReader) read(values map[string]any) bool {
	good := r.address() && r.plain(values) && r.capable(values["capabilities"]) && r.ca(values["ca"]) &&
		r.client(values["client"]) && r.header(values["header"])
	if !good {
		return false
	}
	m := &r.out.Mirror
	if m.Scheme == upstream.HTTP {
		m.CA, m.ClientCerts = "", nil
	}
	r.root()
	r.auth(values["auth"])
	r.rewrite(values["rewrite"])
	return true
}

// fatal is a value that makes containerd ignore the whole file.
func (r *endpointReader) fatal(key, want string) bool {
	r.problem(key, want+"; as it is containerd ignores the whole file, without a word, and goes straight to the registry")
	return false
}

// broken is a value that makes the endpoint useless for the agent.
func (r *endpointReader) broken(key, text string) {
	r.out.Broken = true
	r.problem(key, text)
}

func (r *endpointReader) problem(key, text string) {
	path := append(slices.Clone(r.at), strings.Split(key, ".")...)
	if key == "" && r.out.Server {
		path = []string{"server"}
	}
	r.fileReader.problem(path, text)
}

// address reads the URL as containerd does.
func (r *endpointReader) address() bool {
	raw := r.out.URL
	switch {
	case raw == "" && !r.out.Server:
		return r.fatal("", "this is no URL; expected https://host[:port][/path]")
	case raw == "":
		r.itself()
		return true
	}
	if !strings.HasPrefix(raw, "http") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return r.fatal("", "this is no URL; expected https://host[:port][/path]")
	}
	m := &r.out.Mirror
	m.Scheme, m.Host = upstream.Scheme(u.Scheme), strings.ToLower(u.Host)
	m.Root = u.Path
	switch {
	case m.Scheme != upstream.HTTP && m.Scheme != upstream.HTTPS:
		r.broken("", "the scheme is neither http nor https")
	case !hostPattern.MatchString(m.Host):
		r.broken("", "expected https://host[:port][/path] with a DNS name or an IP address")
	}
	if u.User != nil {
		r.problem("", "containerd does not use a user name and password in a URL; write them into an auth table")
	}
	return true
}

// itself is the server if the file names none: the host of the image, reached as
// containerd reaches it.
func (r *endpointReader) itself() {
	m := &r.out.Mirror
	m.Scheme, m.Host = upstream.HTTPS, r.host
	name, port, err := net.SplitHostPort(r.host)
	if err != nil {
		name = strings.Trim(r.host, "[]")
	}
	ip := net.ParseIP(name)
	switch {
	case r.host == upstream.DockerHub:
		m.Host = upstream.HostOfAPI(r.host)
	case name == "localhost" || ip != nil && ip.IsLoopback():
		if port != "" && port != "443" {
			m.Scheme = upstream.HTTP
		}
		m.SkipVerify = true
	}
}

// root is the path of the API, which containerd makes of the URL's path.
func (r *endpointReader) root() {
	m := &r.out.Mirror
	root := m.Root
	if root != "" {
		root = strings.TrimSuffix(path.Clean("/"+root), "/")
	}
	if !strings.HasSuffix(root, "/v2") && !r.out.overridePath {
		root += "/v2"
	}
	m.Root = root
}

// plain reads the keys that have one value.
func (r *endpointReader) plain(values map[string]any) bool {
	if v, ok := values["skip_verify"]; ok {
		skip, ok := v.(bool)
		if !ok {
			return r.fatal("skip_verify", "expected true or false, without quotes")
		}
		r.out.skipVerify, r.out.Mirror.SkipVerify = &skip, skip
	}
	if v, ok := values["override_path"]; ok {
		if r.out.overridePath, ok = v.(bool); !ok {
			return r.fatal("override_path", "expected true or false, without quotes")
		}
	}
	if v, ok := values["dial_timeout"]; ok {
		if r.out.dialTimeout, ok = v.(string); !ok {
			return r.fatal("dial_timeout", `expected a string such as "5s"`)
		}
		if _, err := time.ParseDuration(r.out.dialTimeout); err != nil {
			return r.fatal("dial_timeout", `expected a duration such as "5s"`)
		}
	}
	return true
}

// capable reads what the endpoint is used for; without the key, for everything.
func (r *endpointReader) capable(v any) bool {
	const want = `expected a list of "pull", "resolve", "push" and "referrers"`
	list, ok := stringsOf(v)
	if v != nil && !ok {
		return r.fatal("capabilities", want)
	}
	if len(list) == 0 {
		return true
	}
	m := &r.out.Mirror
	m.NoPull, m.NoResolve = true, true
	for _, c := range list {
		switch strings.ToLower(c) {
		case "pull":
			m.NoPull = false
		case "resolve":
			m.NoResolve = false
		case "push", "referrers":
		default:
			return r.fatal("capabilities", want)
		}
	}
	r.out.capabilities = list
	return true
}

// path is a file that hosts.toml names, as containerd sees it.
func (r *endpointReader) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.dir, name)
}

func (r *endpointReader) ca(v any) bool {
	if v == nil {
		return true
	}
	list, ok := oneOrMore(v)
	if !ok {
		return r.fatal("ca", "expected a file name or a list of file names")
	}
	var all strings.Builder
	for _, name := range list {
		file := r.path(name)
		r.out.ca = append(r.out.ca, file)
		found, err := r.disk.certificates(file)
		if err != nil {
			r.broken("ca", fmt.Sprintf("%s cannot be used: %s; containerd fails every pull of %s on it, whatever other mirrors there are; expected a file with PEM certificates, or no such entry", file, reason(err), r.host))
			continue
		}
		all.WriteString(found)
	}
	r.out.Mirror.CA = all.String()
	return true
}

func (r *endpointReader) client(v any) bool {
	if v == nil {
		return true
	}
	const want = "expected a file name, a list of file names, or a list of pairs of certificate and key"
	var pairs [][]string
	switch c := v.(type) {
	case string:
		pairs = [][]string{{c}}
	case []any:
		for _, item := range c {
			pair, ok := oneOrMore(item)
			if _, single := item.(string); !ok || !single && len(pair) != 2 {
				return r.fatal("client", want)
			}
			pairs = append(pairs, pair)
		}
	default:
		return r.fatal("client", want)
	}
	for _, pair := range pairs {
		for i := range pair {
			pair[i] = r.path(pair[i])
		}
		r.out.client = append(r.out.client, pair)
		r.keyPair(pair)
	}
	return true
}

// keyPair reads a certificate and its key, which may be in one file.
func (r *endpointReader) keyPair(pair []string) {
	files := make([]string, 2)
	for i := range files {
		file := pair[min(i, len(pair)-1)]
		data, err := r.disk.read(file)
		if err != nil {
			r.broken("client", fmt.Sprintf("%s cannot be used: %s; containerd fails every pull of %s on it", file, reason(err), r.host))
			return
		}
		files[i] = string(data)
	}
	if _, err := tls.X509KeyPair([]byte(files[0]), []byte(files[1])); err != nil {
		r.broken("client", fmt.Sprintf("%s is no certificate with its key; containerd fails every pull of %s on it", strings.Join(pair, " with "), r.host))
		return
	}
	r.out.Mirror.ClientCerts = append(r.out.Mirror.ClientCerts, upstream.ClientCert{Cert: files[0], Key: files[1]})
}

func (r *endpointReader) header(v any) bool {
	if v == nil {
		return true
	}
	table, ok := v.(map[string]any)
	if !ok {
		return r.fatal("header", "expected a table of header names")
	}
	header := map[string][]string{}
	for name, value := range table {
		list, ok := oneOrMore(value)
		if !ok {
			return r.fatal("header."+name, "expected a string or a list of strings")
		}
		if !validHeader(name, list) {
			r.broken("header."+name, "this cannot be a header of HTTP: line breaks, other control characters and spaces in the name are not allowed")
		}
		header[name] = list
	}
	r.out.Mirror.Header = header
	return true
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func validHeader(name string, values []string) bool {
	return headerName.MatchString(name) && !slices.ContainsFunc(values, func(v string) bool {
		return strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
	})
}

// stringsOf is a list of strings.
func stringsOf(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, 0, len(list))
	for _, item := range list {
		s, ok := item.(string)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// oneOrMore is a string or a list of strings.
func oneOrMore(v any) ([]string, bool) {
	if s, ok := v.(string); ok {
		return []string{s}, true
	}
	return stringsOf(v)
}
