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

// Moment is when a write is struck, seen from the API server.
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

// errStruck is what a transport behind the choke answers.
var errStruck = errors.New("apitest: the choke struck")

// Choke is a reverse proxy in front of the API server that counts writes and
// can strike at one of them, the way a crash of the client would look: from
// then on nothing passes until Revive. Reads pass and are not counted.
//
// Writes are POST, PUT, PATCH and DELETE, except those that change nothing
// (dry runs, access and token reviews) and those that no product logic depends
// on (Events, Leases).
type Choke struct {
	config *rest.Config
	closed chan struct{} // the test is over

	mu     sync.Mutex
	writes []string
	strike int // number of the write to strike at; 0: none
	moment Moment
	// refuse, when not 0, is answered to the struck write instead of striking.
	refuse int
	struck chan struct{} // closed at the strike
	gate   chan struct{} // struck write waits for it; nil: no gate
}

// NewChoke puts a choke between a client and the server. as carries the
// identity; clients of Choke.Config need none of their own.
func NewChoke(tb testing.TB, as *rest.Config) *Choke {
	tb.Helper()
	target, err := url.Parse(as.Host)
	if err != nil {
		tb.Fatalf("choke: %v", err)
	}
	transport, err := rest.TransportFor(as)
	if err != nil {
		tb.Fatalf("choke: %v", err)
	}
	c := &Choke{struck: make(chan struct{}), closed: make(chan struct{})}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     &chokeTransport{choke: c, next: transport},
		FlushInterval: -1, // watches
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		// Broken connections are what this is for.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	front := httptest.NewServer(proxy)
	tb.Cleanup(front.Close)
	tb.Cleanup(front.CloseClientConnections)
	tb.Cleanup(func() { close(c.closed) })
	c.config = &rest.Config{Host: front.URL, QPS: -1}
	return c
}

// Config leads through the choke.
func (c *Choke) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Strike kills the client at its n-th write from now on, counted from 1: that
// write gets no answer, and everything after it is refused until Revive. The
// returned channel is closed at the strike.
func (c *Choke) Strike(n int, moment Moment) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.strike, c.moment, c.refuse, c.gate = len(c.writes)+n, moment, 0, nil
	c.struck = make(chan struct{})
	return c.struck
}

// Refuse answers the n-th write from now on with an HTTP status; it does not
// reach the server, and later ones pass.
func (c *Choke) Refuse(n, status int) <-chan struct{} {
	struck := c.Strike(n, Before)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = status
	return struck
}

// Hold keeps the n-th write from now on from reaching the server until release
// is called, and then lets it pass: the late write of an old leader. Other
// requests pass meanwhile. The channel is closed when the write arrived.
func (c *Choke) Hold(n int) (held <-chan struct{}, release func()) {
	held = c.Strike(n, Before)
	c.mu.Lock()
	defer c.mu.Unlock()
	gate := make(chan struct{})
	c.gate = gate
	return held, sync.OnceFunc(func() { close(gate) })
}

// Revive lets everything pass again.
func (c *Choke) Revive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.strike, c.refuse, c.gate = 0, 0, nil
	c.struck = make(chan struct{})
}

// Writes are all writes that arrived, as "PATCH /api/v1/…", the struck one
// included, those refused while dead not.
func (c *Choke) Writes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.writes...)
}

// verdict is what becomes of one request.
type verdict struct {
	dead   bool          // refuse without counting
	struck bool          // this is the one
	moment Moment        // when to strike
	status int           // answer this instead
	gate   chan struct{} // wait for this, then pass
}

func (c *Choke) judge(r *http.Request) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead() {
		return verdict{dead: true}
	}
	if !isWrite(r) {
		return verdict{}
	}
	c.writes = append(c.writes, r.Method+" "+r.URL.Path)
	if len(c.writes) != c.strike {
		return verdict{}
	}
	return verdict{struck: true, moment: c.moment, status: c.refuse, gate: c.gate}
}

// dead reports whether a strike that kills has happened. Held and refused
// writes leave the client alive.
func (c *Choke) dead() bool {
	select {
	case <-c.struck:
		return c.strike != 0 && c.refuse == 0 && c.gate == nil
	default:
		return false
	}
}

// announce closes the channel of the current strike.
func (c *Choke) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.struck:
	default:
		close(c.struck)
	}
}

// isWrite reports whether a request counts; see Choke.
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

// chokeTransport carries out the verdicts.
type chokeTransport struct {
	choke *Choke
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper. A write that is struck Before is
// announced at once, one struck After when the server has answered.
func (t *chokeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	v := t.choke.judge(r)
	switch {
	case v.dead:
		return nil, errStruck
	case !v.struck:
		return t.next.RoundTrip(r)
	case v.status != 0:
		t.choke.announce()
		return &http.Response{StatusCode: v.status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	case v.gate != nil:
		t.choke.announce()
		select {
		case <-v.gate:
			return t.next.RoundTrip(r)
		case <-t.choke.closed:
			return nil, errStruck
		}
	case v.moment == Before:
		t.choke.announce()
		return nil, errStruck
	}
	resp, err := t.next.RoundTrip(r)
	t.choke.announce()
	if err != nil {
		return nil, err
	}
	// The write is done; only its answer is lost.
	_ = resp.Body.Close()
	return nil, errStruck
}
