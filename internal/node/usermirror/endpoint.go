package usermirror

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/node/hostsfile"
	"github.com/d8-registry/registry/internal/upstream"
)

// endpointReader makes of what containerd reads in one [host."…"], or at the top of
// the file for the server, what the agent uses.
type endpointReader struct {
	*fileReader
	table hostsfile.Table
	out   Endpoint
}

var hostPattern = regexp.MustCompile(`^(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$`)

func (r *endpointReader) read() {
	m := &r.out.Mirror
	if r.table.SkipVerify != nil {
		m.SkipVerify = *r.table.SkipVerify
	}
	r.out.reads = r.table
	r.address()
	r.capable()
	r.ca()
	r.client()
	r.header()
	if m.Scheme == upstream.HTTP {
		m.CA, m.ClientCerts = "", nil
	}
	r.root()
	r.auth(r.table.Auth)
	r.rewrite(r.table.Rewrite)
}

// broken is a value that makes the endpoint useless for the agent.
func (r *endpointReader) broken(key, text string) {
	r.out.Broken = true
	r.problem(key, text)
}

func (r *endpointReader) problem(key, text string) {
	path := append(slices.Clone(r.table.Path), strings.Split(key, ".")...)
	if key == "" && r.out.Server {
		path = []string{"server"}
	}
	r.fileReader.problem(path, text)
}

// address reads the URL as containerd does.
func (r *endpointReader) address() {
	raw := r.out.URL
	switch {
	case raw == "" && !r.out.Server:
		r.broken("", "this is no URL; expected https://host[:port][/path]")
		return
	case raw == "":
		r.itself()
		return
	}
	if !strings.HasPrefix(raw, "http") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return // containerd could not read the file
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
}

// itself is the server if the file names none: the host of the image, reached as
// containerd reaches it.
func (r *endpointReader) itself() {
	m := &r.out.Mirror
	address, skip := r.dialect.Itself(r.host)
	scheme, host, _ := strings.Cut(address, "://")
	m.Scheme, m.Host, m.SkipVerify = upstream.Scheme(scheme), host, m.SkipVerify || skip
}

// root is the path of the API, which containerd makes of the URL's path.
func (r *endpointReader) root() {
	m := &r.out.Mirror
	root := m.Root
	if root != "" {
		root = strings.TrimSuffix(path.Clean("/"+root), "/")
	}
	if !strings.HasSuffix(root, "/v2") && !r.table.OverridePath {
		root += "/v2"
	}
	m.Root = root
}

// capable reads what the endpoint is used for; without the key, for everything.
func (r *endpointReader) capable() {
	if len(r.table.Capabilities) == 0 {
		return
	}
	can := func(what string) bool {
		return slices.ContainsFunc(r.table.Capabilities, func(c string) bool { return strings.EqualFold(c, what) })
	}
	r.out.Mirror.NoPull, r.out.Mirror.NoResolve = !can("pull"), !can("resolve")
}

// path is a file that hosts.toml names, as containerd sees it.
func (r *endpointReader) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.dir, name)
}

func (r *endpointReader) ca() {
	var all strings.Builder
	r.out.reads.CA = nil
	for _, name := range r.table.CA {
		file := r.path(name)
		r.out.reads.CA = append(r.out.reads.CA, file)
		found, err := r.disk.certificates(file)
		if err != nil {
			r.broken("ca", fmt.Sprintf("%s cannot be used: %s; containerd fails every pull of %s on it, whatever other mirrors there are; expected a file with PEM certificates, or no such entry", file, reason(err), r.host))
			continue
		}
		all.WriteString(found)
	}
	r.out.Mirror.CA = all.String()
}

func (r *endpointReader) client() {
	r.out.reads.Client = nil
	for _, names := range r.table.Client {
		var pair []string
		for _, name := range names {
			pair = append(pair, r.path(name))
		}
		r.out.reads.Client = append(r.out.reads.Client, pair)
		r.keyPair(pair)
	}
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

func (r *endpointReader) header() {
	for _, name := range slices.Sorted(maps.Keys(r.table.Header)) {
		if !validHeader(name, r.table.Header[name]) {
			r.broken("header."+name, "this cannot be a header of HTTP: line breaks, other control characters and spaces in the name are not allowed")
		}
	}
	r.out.Mirror.Header = r.table.Header
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func validHeader(name string, values []string) bool {
	return headerName.MatchString(name) && !slices.ContainsFunc(values, func(v string) bool {
		return strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
	})
}
