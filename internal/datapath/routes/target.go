package routes

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Transport is how an upstream is reached: a transport.Transport, but in some tests.
type Transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// Target is one upstream with what is known about it.
type Target struct {
	*Server
	Transport Transport
	Limits    Limits // of the credentials too: other ones may have other limits

	upstream upstream.Upstream
	paths    pathMapping
	lasting  string // its ID but for the credentials
	place    string
	ping     func(context.Context) error // of a store, see newStore
	onlyKept bool                        // see OnlyKept

	renewed atomic.Pointer[[]*Target] // who is asked now, if it is not this one any more
}

func newTarget(u upstream.Upstream, metrics Metrics) (*Target, error) {
	reached, err := transport.New(u)
	if err != nil {
		return nil, err
	}
	anonymous := u
	anonymous.Credentials = upstream.Credentials{}
	return &Target{Server: &Server{}, upstream: u, paths: layoutMapping(u), Transport: told(reached, u, metrics), lasting: anonymous.ID(), place: placeOf(u)}, nil
}

func newMirrorTarget(m upstream.Mirror, metrics Metrics) (*Target, error) {
	mapped, err := mirrorMapping(m)
	if err != nil {
		return nil, err
	}
	reached, err := transport.ForMirror(m)
	if err != nil {
		return nil, err
	}
	anonymous := m
	anonymous.Credentials = upstream.Credentials{}
	return &Target{Server: &Server{}, upstream: m.Upstream, paths: mapped, Transport: told(reached, m.Upstream, metrics), lasting: anonymous.ID(), place: placeOf(m.Upstream)}, nil
}

// told has the metrics, if there are any, count the tokens of an upstream.
func told(t *transport.Transport, u upstream.Upstream, metrics Metrics) *transport.Transport {
	if metrics != nil {
		t.TellTokens(func(err error) { metrics.Token(u.Host, err) })
	}
	return t
}

// Host is the name of the upstream's server, for logs and metrics.
func (t *Target) Host() string { return t.upstream.Host }

// OfUser reports whether users set the upstream up, and no layout.
func (t *Target) OfUser() bool { return t.paths.mirror && !t.IsStore() }

// IsStore reports whether it has no more than the upstreams of the layout do.
func (t *Target) IsStore() bool { return t.ping != nil }

// Ping is nil for a store that answers, whatever it waits for itself.
func (t *Target) Ping(ctx context.Context) error { return t.ping(ctx) }

// Place names where the upstream's images are, whoever asks for them: it is the same with
// other credentials and another CA.
func (t *Target) Place() string { return t.place }

func placeOf(u upstream.Upstream) string {
	return upstream.Digest([]string{string(u.Scheme), u.Host, u.Path})[:16]
}

// Allows reports whether the upstream may be asked this.
func (t *Target) Allows(pull oci.Pull) bool { return t.paths.allows(pull) }

// Repository is how the upstream calls a repository of a name; ok is false when it has none.
func (t *Target) Repository(name layout.Name, repository string) (string, bool) {
	return t.paths.repositoryAt(name, repository)
}

// May reports whether the upstream may be asked for a pull, and has a repository for it.
func (t *Target) May(pull oci.Pull, name layout.Name) bool {
	_, ok := t.Repository(name, pull.Repository)
	return ok && t.Allows(pull)
}

// Request is the client's request as this upstream understands it. It is nil,
// with a reason, if the upstream cannot have such a thing.
func (t *Target) Request(req *http.Request, pull oci.Pull, name layout.Name) (out *http.Request, reason string) {
	if !t.Allows(pull) {
		return nil, "it may not be asked for this"
	}
	repository, ok := t.Repository(name, pull.Repository)
	if !ok {
		return nil, "no repository for this name"
	}
	ctx := regauth.WithRepository(req.Context(), t.paths.named(repository))
	if pull.ByDigest() && pull.Kind != oci.KindReferrers { // a list is no content of a digest
		ctx = transport.WithDigest(ctx)
	}
	out = req.WithContext(ctx) // whoever changes the header copies it
	out.URL = t.upstream.Origin()
	out.URL.Path, out.URL.RawQuery = t.paths.root+pull.Path(repository), t.query(pull)
	out.Host = ""
	return out, ""
}

// query tells a user's mirror, as containerd does, which registry is meant: one
// mirror may serve many. A store is told in any case.
func (t *Target) query(pull oci.Pull) string {
	if !t.paths.mirror || !pull.Namespaced && !t.IsStore() || t.upstream.Host == pull.Host {
		return pull.Query
	}
	return strings.TrimPrefix(pull.Query+"&ns="+url.QueryEscape(pull.Host), "&")
}
