package proxy

import (
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// DefaultProbe is how long an upstream that cost a request its time is tried
// last.
const DefaultProbe = 10 * time.Second

// maxProbe is what repeated failures lengthen it to.
const maxProbe = time.Minute

// target is one upstream with what is known of it.
type target struct {
	upstream  upstream.Upstream
	place     place
	transport *Transport
	health    health
}

func newTarget(u upstream.Upstream) (*target, error) {
	transport, err := NewTransport(u)
	if err != nil {
		return nil, err
	}
	return &target{upstream: u, place: below(u.Path), transport: transport}, nil
}

func newMirrorTarget(m upstream.Mirror) (*target, error) {
	mapped, err := placeOf(m)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(m)
	if err != nil {
		return nil, err
	}
	return &target{upstream: m.Upstream, place: mapped, transport: transport}, nil
}

// rewrite is the client's request as this upstream understands it. Without a
// request there is a reason: the upstream has no such thing.
func (t *target) rewrite(req *http.Request, pull Pull, name layout.Name) (out *http.Request, reason string) {
	if !t.place.may(pull) {
		return nil, "it may not be asked for this"
	}
	repository, ok := t.place.find(name, pull.Repository)
	if !ok {
		return nil, "no repository for this name"
	}
	out = req.Clone(req.Context())
	out.URL = &url.URL{
		Scheme:   string(t.upstream.Scheme),
		Host:     t.upstream.Host,
		Path:     t.place.root + pull.path(repository),
		RawQuery: t.query(pull),
	}
	out.Host = ""
	return out, ""
}

// query tells a user's mirror, as containerd does, which registry is meant: it
// may stand in for many.
func (t *target) query(pull Pull) string {
	if !t.place.mirror || !pull.namespaced || t.upstream.Host == pull.Host {
		return pull.query
	}
	ns := "ns=" + url.QueryEscape(pull.Host)
	if pull.query == "" {
		return ns
	}
	return pull.query + "&" + ns
}

// health remembers that an upstream did not answer in time, so that the next
// requests do not pay for it again.
type health struct {
	mu    sync.Mutex
	fails int
	layer bool      // a layer is among what failed
	until time.Time // tried last until then; zero when nothing is wrong
}

// standing is how an upstream is to be treated by one request.
type standing int

const (
	trusted  standing = iota // in its place
	probed                   // in its place, but not for long
	distrust                 // last
)

// ask is the standing of the moment. When the time has come one request gets
// to probe; the others go on avoiding the upstream until that one knows.
func (h *health) ask(now time.Time, probe time.Duration) standing {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.fails == 0:
		return trusted
	case now.Before(h.until):
		return distrust
	default:
		h.until = now.Add(probe)
		return probed
	}
}

// failed is told that a request for a layer, or for something else, lost time.
func (h *health) failed(now time.Time, probe time.Duration, layer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails = min(h.fails+1, 10)
	h.layer = h.layer || layer
	h.until = now.Add(min(probe<<(h.fails-1), max(probe, maxProbe)))
}

// served is told of a good answer. A manifest says nothing of the machine that
// layers come from: after each one the next layer would wait again.
func (h *health) served(layer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if layer || !h.layer {
		h.fails, h.layer = 0, false
	}
}
