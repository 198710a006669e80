package proxy

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// DefaultProbe is how long an upstream that did not answer in time is asked last.
const DefaultProbe = 10 * time.Second

// maxProbe is what repeated failures lengthen it to.
const maxProbe = time.Minute

// Transport is how an upstream is reached: a transport.Transport, but in some tests.
type Transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// target is one upstream with what is known about it.
type target struct {
	upstream  upstream.Upstream
	paths     pathMapping
	transport Transport
	health    health
	streak    streak
	corrupt   corrupt
}

func newTarget(u upstream.Upstream) (*target, error) {
	reached, err := transport.New(u)
	if err != nil {
		return nil, err
	}
	return &target{upstream: u, paths: layoutMapping(u), transport: reached}, nil
}

func newMirrorTarget(m upstream.Mirror) (*target, error) {
	mapped, err := mirrorMapping(m)
	if err != nil {
		return nil, err
	}
	reached, err := transport.ForMirror(m)
	if err != nil {
		return nil, err
	}
	return &target{upstream: m.Upstream, paths: mapped, transport: reached}, nil
}

// rewrite is the client's request as this upstream understands it. It is nil,
// with a reason, if the upstream cannot have such a thing.
func (t *target) rewrite(req *http.Request, pull oci.Pull, name layout.Name) (out *http.Request, reason string) {
	if !t.paths.allows(pull) {
		return nil, "it may not be asked for this"
	}
	repository, ok := t.paths.repositoryAt(name, pull.Repository)
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
// mirror may serve many.
func (t *target) query(pull oci.Pull) string {
	if !t.paths.mirror || !pull.Namespaced || t.upstream.Host == pull.Host {
		return pull.Query
	}
	return strings.TrimPrefix(pull.Query+"&ns="+url.QueryEscape(pull.Host), "&")
}

// health remembers that an upstream did not answer in time, so that the next
// requests need not wait for it again.
type health struct {
	mu    sync.Mutex
	fails int
	layer bool      // a layer is among what failed
	until time.Time // tried last until then; zero when nothing is wrong
}

// upstreamHealth is how one request is to treat an upstream.
type upstreamHealth int

const (
	healthy   upstreamHealth = iota // asked in its turn
	probing                         // asked in its turn, with a short limit
	unhealthy                       // asked last
)

// ask is the health of the moment. When a probe is due, one request makes it; the
// others go on asking the upstream last until that one is through.
func (h *health) ask(now time.Time, probe time.Duration) upstreamHealth {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.fails == 0:
		return healthy
	case now.Before(h.until):
		return unhealthy
	}
	h.until = now.Add(probe)
	return probing
}

// failed notes that a request lost time. layer says that it was for a layer.
func (h *health) failed(now time.Time, probe time.Duration, layer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails = min(h.fails+1, 10)
	h.layer = h.layer || layer
	h.until = now.Add(min(probe<<(h.fails-1), max(probe, maxProbe)))
}

// served notes a good answer. After a layer has failed only a layer counts: a
// manifest says nothing about the machine that layers come from.
func (h *health) served(layer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if layer || !h.layer {
		h.fails, h.layer = 0, false
	}
}
