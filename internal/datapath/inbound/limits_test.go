package inbound

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/d8-registry/registry/test/harness/cert"
)

// port is a server with limits, for connections made by hand.
type port struct {
	t       *testing.T
	address string
	metrics *Metrics
}

// listen serves in plain text what hands out to everybody, and Known for who says
// they are: header Who.
func listen(t *testing.T, limits Limits, what http.HandlerFunc, certificate GetCertificate) port {
	t.Helper()
	on, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := port{t: t, address: on.Addr().String(), metrics: newMetrics()}
	known := Known(what)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Who") == "" {
			what(w, r)
			return
		}
		known.ServeHTTP(w, r)
	})
	server := New(h, Config{Name: "pulls", Certificate: certificate, Limits: limits, Metrics: p.metrics, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, on, Drain{}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p port) dial() net.Conn {
	p.t.Helper()
	c, err := new(net.Dialer).DialContext(p.t.Context(), "tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second)) // a test that hangs says where
	return c
}

// send returns the status, and whether the connection ends with it.
func (p port) send(c net.Conn, text string) (status int, last bool) {
	p.t.Helper()
	if _, err := io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		p.t.Fatalf("no answer: %v", err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Close
}

const known, anybody = "GET / HTTP/1.1\nHost: x\nWho: me\n\n", "GET / HTTP/1.1\nHost: x\n\n"

// ends waits for the other side to close a connection.
func (p port) ends(c net.Conn, what string) {
	p.t.Helper()
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		p.t.Errorf("%s: still open", what)
	}
}

func (p port) open(isKnown string) float64 {
	return testutil.ToFloat64(p.metrics.open.WithLabelValues("pulls", isKnown))
}

func (p port) closed(why reason) float64 {
	return testutil.ToFloat64(p.metrics.closed.WithLabelValues("pulls", string(why)))
}

// until waits for what a connection's goroutine does after its end.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func nothing(http.ResponseWriter, *http.Request) {}

func TestABodyIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	p := listen(t, Limits{}, func(http.ResponseWriter, *http.Request) { t.Error("it was served") }, nil)
	for _, request := range []string{
		"POST /v2/ HTTP/1.1\nHost: x\nContent-Length: 100\n\n",
		"GET /v2/ HTTP/1.1\nHost: x\nContent-Length: 1000000\n\n",
		"PUT /v2/ HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n",
		"PATCH /v2/ HTTP/1.1\nHost: x\nContent-Length: 5\nExpect: 100-continue\n\n",
		"GET /v2/ HTTP/1.1\nHost: x\nWho: me\nContent-Length: 5\n\nhello",
	} {
		c := p.dial()
		if status, last := p.send(c, request); status != http.StatusRequestEntityTooLarge || !last {
			t.Errorf("%q: %d, close %v", request, status, last)
		}
		p.ends(c, request)
	}
	if n := p.closed(withBody); n != 5 {
		t.Errorf("%v counted", n)
	}
	until(t, "all are gone", func() bool { return p.open("false") == 0 })
}

// Whatever a stranger does or leaves undone, their connection ends.
func TestStrangersEnd(t *testing.T) {
	t.Parallel()
	own, _, err := cert.SelfSigned("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }
	for _, c := range []struct {
		name, says  string
		limits      Limits
		certificate GetCertificate
	}{
		{"says nothing", "", Limits{Header: 300 * time.Millisecond}, nil},
		{"no handshake", "", Limits{Header: 300 * time.Millisecond}, certificate},
		{"half a handshake", "\x16\x03\x01\x02\x00\x01", Limits{Header: 300 * time.Millisecond}, certificate},
		{"half a header", "GET / HTTP/1.1\r\nHost:", Limits{Header: 300 * time.Millisecond}, nil},
		{"no second request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", Limits{Stranger: 300 * time.Millisecond}, nil},
		{"says nothing, longest", "", Limits{Stranger: 300 * time.Millisecond}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, c.limits, nothing, c.certificate)
			conn := p.dial()
			_, _ = io.WriteString(conn, c.says)
			p.ends(conn, c.name)
			until(t, "counted", func() bool { return p.closed(anonymous) == 1 && p.open("false") == 0 })
		})
	}
}

// A stranger who asks again and again does not live longer for it.
func TestAStrangerWhoAsksOn(t *testing.T) {
	t.Parallel()
	p := listen(t, Limits{Stranger: 300 * time.Millisecond}, nothing, nil)
	c := p.dial()
	go func() {
		for t.Context().Err() == nil {
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}()
	p.ends(c, "asks on")
}

// Who has shown credentials may take their time: the first answer and the pause
// after it last longer than a stranger may live.
func TestTheKnownStay(t *testing.T) {
	t.Parallel()
	p := listen(t, Limits{Stranger: 300 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(600 * time.Millisecond):
		case <-r.Context().Done():
			t.Error("cut")
		}
		w.WriteHeader(http.StatusTeapot)
	}, nil)
	c := p.dial()
	for range 2 {
		if status, _ := p.send(c, known); status != http.StatusTeapot {
			t.Fatal(status)
		}
		<-time.After(400 * time.Millisecond)
	}
	if p.open("true") != 1 || p.open("false") != 0 {
		t.Errorf("%v known, %v anonymous", p.open("true"), p.open("false"))
	}
	_ = c.Close()
	until(t, "gone", func() bool { return p.open("true") == 0 })
}

// Time counts without progress, not in all: who reads slowly gets everything.
func TestWhoDoesNotReadIsCut(t *testing.T) {
	t.Parallel()
	const size = 64 << 20 // more than the kernel holds
	cut := make(chan error, 2)
	p := listen(t, Limits{Unread: 500 * time.Millisecond}, func(w http.ResponseWriter, _ *http.Request) {
		part := make([]byte, 16<<10)
		for range size / len(part) {
			if _, err := w.Write(part); err != nil {
				cut <- err
				return
			}
		}
		cut <- nil
	}, nil)
	c := p.dial()
	if _, err := io.WriteString(c, strings.ReplaceAll(known, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := <-cut; err == nil {
		t.Error("all was written to a client that reads nothing")
	}
	if n := p.closed(unread); n != 1 {
		t.Errorf("%v counted", n)
	}

	slow := p.dial()
	if _, err := io.WriteString(slow, strings.ReplaceAll(known, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	started, read := time.Now(), int64(0)
	for read < size {
		n, err := io.CopyN(io.Discard, slow, 8<<20)
		read += n
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("after %d bytes: %v", read, err)
		}
		if n == 0 {
			break
		}
		<-time.After(150 * time.Millisecond)
	}
	if err := <-cut; err != nil || time.Since(started) < 500*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(started))
	}
}

// Strangers close nobody out: beyond a limit the oldest of them makes room, and who
// has shown credentials never does.
func TestStrangersMakeRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		limits Limits
		why    reason
	}{
		{"of all", Limits{Anonymous: 3, Grace: 1}, crowded},
		{"of an address", Limits{PerAddress: 3, Grace: 1}, perAddress},
		{"of all connections", Limits{Connections: 4, Grace: 1}, crowded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, c.limits, nothing, nil)
			friend := p.dial()
			p.send(friend, known)
			var strangers []net.Conn
			for range 20 {
				s := p.dial()
				p.send(s, anybody)
				strangers = append(strangers, s)
			}
			for _, s := range strangers[:17] {
				p.ends(s, "an old stranger")
			}
			if got := p.closed(c.why); got != 17 || p.open("false") != 3 || p.open("true") != 1 {
				t.Errorf("%v closed, %v anonymous and %v known are open", got, p.open("false"), p.open("true"))
			}
			p.send(friend, known)
			p.send(strangers[19], known)
			if p.open("true") != 2 {
				t.Errorf("%v known", p.open("true"))
			}
		})
	}
}

// When everybody is known, the next one waits for somebody to go.
func TestTheNextOneWaits(t *testing.T) {
	t.Parallel()
	p := listen(t, Limits{Connections: 2}, nothing, nil)
	first, second := p.dial(), p.dial()
	p.send(first, known)
	p.send(second, known)
	third := p.dial()
	answered := make(chan int, 1)
	go func() {
		status, _ := p.send(third, known)
		answered <- status
	}()
	select {
	case <-answered:
		t.Fatal("three of two")
	case <-time.After(200 * time.Millisecond):
	}
	_ = first.Close()
	if status := <-answered; status != http.StatusOK {
		t.Error(status)
	}
}

// The time of a stranger begins when there is room for them.
func TestWhoHasWaitedIsServed(t *testing.T) {
	t.Parallel()
	p := listen(t, Limits{Connections: 1, Stranger: 300 * time.Millisecond}, nothing, nil)
	first := p.dial()
	p.send(first, known)
	second := p.dial()
	<-time.After(600 * time.Millisecond)
	_ = first.Close()
	if status, _ := p.send(second, known); status != http.StatusOK {
		t.Error(status)
	}
}

// taken says when a connection has been taken from the kernel's queue.
type taken struct {
	net.Listener
	next chan struct{}
}

func (l taken) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	l.next <- struct{}{}
	return c, err
}

// A listener that waits for room can be closed, and lets nobody in after that: the
// connections that are open may be downloads, and go on for long.
func TestAWaitingListenerCloses(t *testing.T) {
	t.Parallel()
	on, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := port{t: t, address: on.Addr().String()}
	queue := taken{on, make(chan struct{}, 2)}
	l := &listener{Listener: queue, gate: newGate("pulls", Limits{Connections: 1}.withDefaults(), newMetrics()), closed: make(chan struct{}), uncut: t.Context()}
	p.dial()
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	_ = first.(*conn).know() //nolint:forcetypeassert // a test
	<-queue.next
	second := p.dial()
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	<-queue.next
	_ = l.Close()
	if p.ends(second, "who waited for room"); t.Failed() {
		return
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
