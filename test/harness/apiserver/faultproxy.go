package apiserver

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// Moment is when a write fails, seen from the API server.
type Moment int

// The two moments. To the client both look the same: a connection that ends
// without an answer.
const (
	// Before: the write never reached the server.
	Before Moment = iota
	// After: the write was carried out, its answer was lost.
	After
)

// String names the moment for the names of subtests.
func (m Moment) String() string {
	if m == After {
		return "after"
	}
	return "before"
}

// errFault cuts the connection to the client.
var errFault = errors.New("the fault proxy cuts the connection")

// FaultProxy stands in front of the API server, counts writes and lets one of
// them fail. Fail is what a crash of the client would look like: from then on
// nothing passes until Revive. Reads pass and are not counted.
//
// Writes are POST, PUT, PATCH and DELETE, except those that change nothing
// (dry runs, access and token reviews) and those that no product logic depends
// on (Events, Leases).
type FaultProxy struct {
	config *rest.Config
	closed chan struct{} // the test is over

	mu     sync.Mutex
	writes []string
	failAt int // number of the write that fails; 0: none
	moment Moment
	// refuse, when not 0, is the HTTP status that the write is answered with.
	refuse int
	failed chan struct{} // closed when the write fails
	gate   chan struct{} // the write waits for it; nil: no gate
}

// NewFaultProxy puts a proxy between a client and the server. as carries the
// identity; clients of FaultProxy.Config need none of their own.
func NewFaultProxy(tb testing.TB, as *rest.Config) *FaultProxy {
	tb.Helper()
	target, err := url.Parse(as.Host)
	if err != nil {
		tb.Fatalf("fault proxy: %v", err)
	}
	transport, err := rest.TransportFor(as)
	if err != nil {
		tb.Fatalf("fault proxy: %v", err)
	}
	p := &FaultProxy{failed: make(chan struct{}), closed: make(chan struct{})}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     &faultTransport{proxy: p, next: transport},
		FlushInterval: -1, // watches
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		// Broken connections are what this is for.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	front := httptest.NewServer(proxy)
	tb.Cleanup(front.Close)
	tb.Cleanup(front.CloseClientConnections)
	tb.Cleanup(func() { close(p.closed) })
	p.config = &rest.Config{Host: front.URL, QPS: -1}
	return p
}

// Config leads through the proxy.
func (p *FaultProxy) Config() *rest.Config { return rest.CopyConfig(p.config) }

// Fail cuts the client off at its n-th write from now on, counted from 1: that
// write gets no answer, and everything after it is refused until Revive. The
// returned channel is closed when that write fails.
func (p *FaultProxy) Fail(n int, moment Moment) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failAt, p.moment, p.refuse, p.gate = len(p.writes)+n, moment, 0, nil
	p.failed = make(chan struct{})
	return p.failed
}

// Refuse answers the n-th write from now on with an HTTP status; it does not
// reach the server, and later ones pass.
func (p *FaultProxy) Refuse(n, status int) <-chan struct{} {
	failed := p.Fail(n, Before)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = status
	return failed
}

// Hold keeps the n-th write from now on from reaching the server until release
// is called, and then lets it pass: the late write of an old leader. Other
// requests pass meanwhile. The channel is closed when the write arrived.
func (p *FaultProxy) Hold(n int) (held <-chan struct{}, release func()) {
	held = p.Fail(n, Before)
	p.mu.Lock()
	defer p.mu.Unlock()
	gate := make(chan struct{})
	p.gate = gate
	return held, sync.OnceFunc(func() { close(gate) })
}

// Revive lets everything pass again.
func (p *FaultProxy) Revive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failAt, p.refuse, p.gate = 0, 0, nil
	p.failed = make(chan struct{})
}

// Writes are all writes that arrived, as "PATCH /api/v1/…", also the one
// that failed, but none after it.
func (p *FaultProxy) Writes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.writes...)
}

// decision is what becomes of one request.
type decision struct {
	dead   bool          // refuse without counting
	failed bool          // this is the one
	moment Moment        // when it fails
	status int           // answer this instead
	gate   chan struct{} // wait for this, then pass
}

func (p *FaultProxy) decide(r *http.Request) decision {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead() {
		return decision{dead: true}
	}
	if !isWrite(r) {
		return decision{}
	}
	p.writes = append(p.writes, r.Method+" "+r.URL.Path)
	if len(p.writes) != p.failAt {
		return decision{}
	}
	return decision{failed: true, moment: p.moment, status: p.refuse, gate: p.gate}
}

// dead reports whether the client is cut off. It is not after a write that was
// held or refused.
func (p *FaultProxy) dead() bool {
	select {
	case <-p.failed:
		return p.failAt != 0 && p.refuse == 0 && p.gate == nil
	default:
		return false
	}
}

// announce closes the channel of the current fault.
func (p *FaultProxy) announce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.failed:
	default:
		close(p.failed)
	}
}

// isWrite reports whether a request counts; see FaultProxy.
func isWrite(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	if r.URL.Query().Has("dryRun") {
		return false
	}
	for _, group := range []string{
		"/apis/authorization.k8s.io/", "/apis/authentication.k8s.io/",
		"/apis/coordination.k8s.io/", "/apis/events.k8s.io/",
	} {
		if strings.HasPrefix(r.URL.Path, group) {
			return false
		}
	}
	parts := strings.Split(r.URL.Path, "/") // "", api, v1, namespaces, NAME, events
	return len(parts) < 6 || parts[1] != "api" || parts[5] != "events"
}

// faultTransport carries out the decisions.
type faultTransport struct {
	proxy *FaultProxy
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper. A write that fails Before is announced
// at once, one that fails After when the server has answered.
func (t *faultTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	v := t.proxy.decide(r)
	switch {
	case v.dead:
		return nil, errFault
	case !v.failed:
		return t.next.RoundTrip(r)
	case v.status != 0:
		t.proxy.announce()
		return &http.Response{StatusCode: v.status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	case v.gate != nil:
		t.proxy.announce()
		select {
		case <-v.gate:
			return t.next.RoundTrip(r)
		case <-t.proxy.closed:
			return nil, errFault
		}
	case v.moment == Before:
		t.proxy.announce()
		return nil, errFault
	}
	resp, err := t.next.RoundTrip(r)
	t.proxy.announce()
	if err != nil {
		return nil, err
	}
	// The write is done; only its answer is lost.
	_ = resp.Body.Close()
	return nil, errFault
}
