package layout

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/upstream"
)

// document is the encoding: the documented keys of the node configuration, and
// ours (schema, generation, active, target, probe, secondWay, stores, mirrors[].path,
// mirrors[].provided). Those
// of schema 2 are cas, auths, and caRef and authRef beside hosts.
type document struct {
	Schema     int             `json:"schema"`
	Generation int64           `json:"generation"`
	Mode       string          `json:"mode"`
	Version    string          `json:"version"`
	ImagesBase string          `json:"imagesBase"`
	Active     *registry       `json:"active,omitempty"`
	Target     *registry       `json:"target,omitempty"`
	Probe      string          `json:"probe,omitempty"`
	SecondWay  *mirror         `json:"secondWay,omitempty"`
	Hosts      map[string]host `json:"hosts"`
	// ProxyEndpoints are the addresses of Stores, which says how they are reached. Without
	// it they are somebody else's.
	ProxyEndpoints []string `json:"proxyEndpoints,omitempty"`
	Stores         *access  `json:"stores,omitempty"`

	CAs   map[string]string `json:"cas,omitempty"`
	Auths map[string]auth   `json:"auths,omitempty"`
}

type registry struct {
	Mode   string `json:"mode,omitempty"`
	mirror `json:",inline"`
}

type host struct {
	Mirrors []mirror `json:"mirrors"`
}

// access is how a server is believed, and what it is shown.
type access struct {
	CA   string `json:"ca,omitempty"`
	Auth *auth  `json:"auth,omitempty"`
	// CARef and AuthRef name an entry of cas and of auths.
	CARef   string `json:"caRef,omitempty"`
	AuthRef string `json:"authRef,omitempty"`
}

type mirror struct {
	Host   string `json:"host"`
	Scheme string `json:"scheme,omitempty"`
	access `json:",inline"`
	// Provided is whether Auth is for a while: another one may follow without a
	// generation.
	Provided bool `json:"provided,omitempty"`
	// Path is the repository prefix, on both sides, where nothing is rewritten.
	Path     string    `json:"path,omitempty"`
	Rewrites []rewrite `json:"rewrites,omitempty"`
}

type auth struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Auth     string `json:"auth,omitempty"`
}

// rewrite turns the name's path into the upstream's. From is an anchored
// regular expression that matches the name's path literally.
type rewrite struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Encode writes the layout as YAML of schema 1, deterministically. Only valid layouts
// have an encoding.
func Encode(l Layout) ([]byte, error) { return EncodeFor(l, Schema) }

func (l Layout) encode(doc document) ([]byte, error) {
	doc.Version = l.Version()
	data, err := yaml.Marshal(doc)
	if err != nil {
		return nil, encoding(err)
	}
	return data, nil
}

func encoding(err error) error { return fmt.Errorf("encode layout: %w", err) }

// Decode reads what Encode and EncodeFor wrote: a layout is the same in both schemas.
// Fields that it does not know are ignored; an unknown schema, a name without upstream
// and anything malformed is an error.
func Decode(data []byte) (Layout, error) {
	var doc document
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return Layout{}, fmt.Errorf("decode layout: %w: %w", ErrInvalid, withoutValues(err))
	}
	switch doc.Schema {
	case Schema:
	case Newest:
		if err := doc.unfold(); err != nil {
			return Layout{}, fmt.Errorf("decode layout: %w: %w", ErrInvalid, err)
		}
	default:
		return Layout{}, fmt.Errorf("decode layout: %w: schema %d, this program knows %d", ErrInvalid, doc.Schema, Newest)
	}
	l := Layout{Schema: doc.Schema, Generation: doc.Generation, Mode: doc.Mode, Probe: doc.Probe}
	if doc.Active != nil {
		l.ActiveMode, l.Active = doc.Active.Mode, doc.Active.upstream(doc.Active.Path)
		if doc.Active.Host == "" {
			l.Active = upstream.Upstream{}
		}
	}
	if doc.Target != nil {
		l.Target = doc.Target.upstream(doc.Target.Path)
	}
	if w := doc.SecondWay; w != nil {
		l.Fallback = Fallback{Host: w.Host, CA: w.CA, Credentials: w.Auth.credentials()}
	}
	if of := doc.Stores; of != nil {
		l.Stores = Stores{Endpoints: doc.ProxyEndpoints, CA: of.CA, Credentials: of.Auth.credentials()}
		if l.Stores.IsZero() {
			l.Stores = Stores{}
		}
	}
	routes, err := decodeRoutes(doc.Hosts)
	if err != nil {
		return Layout{}, fmt.Errorf("decode layout: %w: %w", ErrInvalid, err)
	}
	l.Routes = routes
	if err := l.Validate(); err != nil {
		return Layout{}, fmt.Errorf("decode layout: %w", err)
	}
	return l, nil
}

// Version is a SHA-256 in hex over generation and content. Passwords are left
// out: the version is shown on Nodes, and a short password could be guessed from
// it. So is all that is provided: it changes without a generation. With the generation, two layouts of the same content have two versions.
func (l Layout) Version() string {
	l = l.Each(func(u upstream.Upstream) upstream.Upstream {
		u = u.Lasting()
		u.Credentials.Password = ""
		return u
	})
	l.Fallback.Credentials.Password, l.Stores.Credentials.Password = "", ""
	return upstream.Digest(l.document())
}

func (l Layout) document() document {
	doc := document{
		Schema:     l.Schema,
		Generation: l.Generation,
		Mode:       l.Mode,
		ImagesBase: l.ImagesBase().String(),
		Probe:      l.Probe,
		Hosts:      map[string]host{},
	}
	if l.ActiveMode != "" || !l.Active.IsZero() {
		doc.Active = &registry{Mode: l.ActiveMode, mirror: mirrorOf(l.Active, l.Active.Path)}
	}
	if !l.Target.IsZero() {
		doc.Target = &registry{mirror: mirrorOf(l.Target, l.Target.Path)}
	}
	if w := l.Fallback; w != (Fallback{}) {
		doc.SecondWay = &mirror{Host: w.Host, access: accessOf(w.CA, w.Credentials)}
	}
	if s := l.Stores; !s.IsZero() {
		of := accessOf(s.CA, s.Credentials)
		doc.ProxyEndpoints, doc.Stores = s.Endpoints, &of
	}
	for _, r := range l.Routes {
		h := doc.Hosts[r.Name.Host]
		for _, u := range r.Upstreams {
			h.Mirrors = append(h.Mirrors, mirrorOf(u, r.Name.Path))
		}
		doc.Hosts[r.Name.Host] = h
	}
	return doc
}

func mirrorOf(u upstream.Upstream, namePath string) mirror {
	m := mirror{Host: u.Host, Scheme: string(u.Scheme), access: accessOf(u.CA, u.Credentials), Provided: u.Provided}
	if namePath == u.Path {
		m.Path = u.Path
	} else {
		m.Rewrites = []rewrite{{From: "^" + regexp.QuoteMeta(namePath), To: u.Path}}
	}
	return m
}

func accessOf(ca string, c upstream.Credentials) access { return access{CA: ca, Auth: authOf(c)} }

func authOf(c upstream.Credentials) *auth {
	if c.IsZero() {
		return nil
	}
	a := &auth{Username: c.Username, Password: c.Password}
	if c.Password != "" {
		a.Auth = c.Auth()
	}
	return a
}

func (a *auth) credentials() upstream.Credentials {
	if a == nil {
		return upstream.Credentials{}
	}
	return upstream.Credentials{Username: a.Username, Password: a.Password}
}

func (m mirror) upstream(path string) upstream.Upstream {
	return upstream.Upstream{
		Host: m.Host, Path: path, Scheme: upstream.Scheme(m.Scheme), CA: m.CA, Credentials: m.Auth.credentials(), Provided: m.Provided,
	}
}

func decodeRoutes(hosts map[string]host) ([]Route, error) {
	var routes []Route
	for key, h := range hosts {
		if len(h.Mirrors) == 0 {
			return nil, fmt.Errorf("name %q: no upstream serves it", key)
		}
		for _, m := range h.Mirrors {
			from, to := m.Path, m.Path
			switch {
			case len(m.Rewrites) == 1 && m.Path == "" && strings.HasPrefix(m.Rewrites[0].From, "^"):
				// Dots are all that a valid path has to quote.
				from = strings.ReplaceAll(m.Rewrites[0].From[1:], `\.`, ".")
				to = m.Rewrites[0].To
			case len(m.Rewrites) > 0:
				return nil, fmt.Errorf("name %q: expected one rewrite from an anchored path, or none and a path", key)
			}
			name := Name{Host: key, Path: from}
			i := slices.IndexFunc(routes, func(r Route) bool { return r.Name == name })
			if i < 0 {
				i = len(routes)
				routes = append(routes, Route{Name: name})
			}
			routes[i].Upstreams = append(routes[i].Upstreams, m.upstream(to))
		}
	}
	slices.SortFunc(routes, func(a, b Route) int { return a.Name.Compare(b.Name) })
	return routes, nil
}

var errorLine = regexp.MustCompile(`line \d+`)

// withoutValues is a parser's error without the line that it could not read: that
// may hold a password.
func withoutValues(err error) error {
	if line := errorLine.FindString(err.Error()); line != "" {
		return fmt.Errorf("not the expected YAML at %s", line)
	}
	return errors.New("not the expected YAML")
}
