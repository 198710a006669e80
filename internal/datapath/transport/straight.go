package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// straight writes a request and reads its answer in the goroutine of the caller, with the
// framing of net/http. http.Transport hands each request to one goroutine of the connection
// and gets the answer from another one, which is most of what a small request costs. All
// that it is set up with holds here too, and what is seldom is left to it: requests with a
// body, and those that go through an HTTP proxy.
type straight struct {
	*http.Transport

	kept  kept
	ahead sync.Pool    // of *[readAhead]byte
	spare atomic.Int32 // connections that are made although their request has another one
}

// maxSpare bounds those.
const maxSpare = 16

// peer is whom a connection leads to.
type peer struct {
	scheme, address string
}

func (s *straight) RoundTrip(req *http.Request) (*http.Response, error) {
	via, err := s.Proxy(req)
	if err != nil || via != nil || !simple(req) {
		return s.Transport.RoundTrip(req)
	}
	to := peer{req.URL.Scheme, addressOf(req.URL)}
	w := s.kept.take(to)
	if w == nil {
		if w, err = s.first(req.Context(), to); err != nil {
			return nil, err
		}
	}
	resp, err := w.exchange(req)
	// A server may end a connection that waits just when it is used again: the request has
	// not been answered, and is one that may be sent twice.
	if !errors.Is(err, errUnused) || req.Context().Err() != nil {
		return resp, err
	}
	if w, err = s.connect(req.Context(), to); err != nil {
		return nil, err
	}
	return w.exchange(req)
}

// simple reports whether a request is what nearly all are: net/http refuses what is wrong,
// and encodes names.
func simple(req *http.Request) bool {
	if req.Method != http.MethodGet && req.Method != http.MethodHead || req.Body != nil && req.Body != http.NoBody {
		return false
	}
	for name, values := range req.Header {
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, invalid) {
			return false
		}
	}
	foreign := func(c rune) bool { return c <= ' ' || c > '~' }
	return (req.URL.Scheme == "https" || req.URL.Scheme == "http") && req.URL.Host != "" && !strings.ContainsFunc(req.URL.Host+req.Host, foreign)
}

func invalid(value string) bool { return !httpguts.ValidHeaderFieldValue(value) }

// first is a new connection, or one that somebody gives back before that is made: a server
// may have a bound of them. Then the new one will wait for others, as with net/http.
func (s *straight) first(ctx context.Context, to peer) (*wire, error) {
	wanted := s.kept.want(to)
	defer s.kept.withdraw(wanted)
	dialing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	made, served := make(chan func() (*wire, error)), make(chan struct{})
	go func() {
		defer cancel()
		w, err := s.connect(dialing, to)
		select {
		case made <- func() (*wire, error) { return w, err }:
		case <-served:
			if s.spare.Add(-1); err == nil {
				w.used = true // it has waited: a server may end it meanwhile
				s.kept.put(w)
			}
		}
	}()
	for {
		select {
		case made := <-made:
			return made()
		case w := <-wanted.got:
			if !w.quiet() {
				w.close()
				continue
			}
			if close(served); s.spare.Add(1) > maxSpare {
				cancel()
			}
			return w, nil
		case <-ctx.Done():
			s.spare.Add(1)
			close(served)
			cancel()
			return nil, context.Cause(ctx)
		}
	}
}

func (s *straight) connect(ctx context.Context, to peer) (*wire, error) {
	dial := s.DialContext
	if to.scheme == "https" {
		dial = s.DialTLSContext
	}
	conn, err := dial(ctx, "tcp", to.address)
	if err != nil {
		return nil, because(ctx, err)
	}
	w := &wire{to: to, conn: conn, of: s}
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	below, ok := conn.(*socket)
	if !ok {
		below = newSocket(conn)
		w.conn = below
	}
	w.below = below
	if w.limited.R = w.conn; below != w.conn {
		w.limited.R = records{w.conn, below, &s.ahead}
	}
	w.in, w.out = bufio.NewReader(&w.limited), bufio.NewWriter(w.conn)
	w.interrupt = func() { _ = below.SetDeadline(time.Unix(1, 0)) } // an error means that it is closed
	return w, nil
}

// because is why a context ended, if that is why something failed.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// errUnused is a connection that was used before, and ended before anything of an answer
// came.
var errUnused = errors.New("the server closed the idle connection")

// wire is one connection. One request at a time has it.
type wire struct {
	to        peer
	conn      net.Conn
	below     *socket
	of        *straight
	limited   io.LimitedReader
	in        *bufio.Reader
	out       *bufio.Writer
	used      bool
	since     time.Time // it waits
	interrupt func()
}

// exchange sends a request and returns its answer; with its body the connection goes back
// to those that are kept.
func (w *wire) exchange(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	b := &body{wire: w, ctx: ctx, stop: context.AfterFunc(ctx, w.interrupt)}
	resp, err := w.ask(req)
	if err != nil {
		b.end(false)
		return nil, because(ctx, err)
	}
	b.keep = !resp.Close && !req.Close && resp.StatusCode != http.StatusSwitchingProtocols
	if b.ReadCloser = resp.Body; resp.Body == http.NoBody {
		b.end(true)
		return resp, nil
	}
	resp.Body = b
	return resp, nil
}

func (w *wire) ask(req *http.Request) (*http.Response, error) {
	used := w.used
	w.used = true
	err := req.Write(w.out)
	if err == nil {
		err = w.out.Flush()
	}
	w.limited.N = MaxHeader
	if err == nil {
		_, err = w.in.Peek(1)
	}
	if err != nil && used {
		return nil, fmt.Errorf("%w: %w", errUnused, err)
	}
	if err != nil {
		return nil, err
	}
	for {
		resp, err := http.ReadResponse(w.in, req)
		switch {
		case err != nil && w.limited.N <= 0:
			return nil, fmt.Errorf("the header of the answer is larger than %d bytes", MaxHeader)
		case err != nil:
			return nil, err
		case resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols:
			w.limited.N = math.MaxInt64
			return resp, nil
		}
	}
}

// quiet reports whether nothing came on a connection that waits, not even its end.
func (w *wire) quiet() bool {
	w.limited.N = 1 << 10
	w.below.waits.Store(true)
	_, err := w.in.Peek(1)
	w.below.waits.Store(false)
	return errors.Is(err, errNothing)
}

// close never takes long: TLS says goodbye if there is room for it.
func (w *wire) close() {
	w.below.waits.Store(true)
	_ = w.conn.Close()
}

// body is that of an answer. With its end the connection can be used again, unless the
// reader went before.
type body struct {
	io.ReadCloser

	wire *wire
	ctx  context.Context //nolint:containedctx // the request's
	stop func() bool
	keep bool
	over atomic.Bool
	eof  bool
}

func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.eof:
		return 0, io.EOF
	case b.over.Load():
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.eof = errors.Is(err, io.EOF)
		b.end(b.eof)
		if !b.eof {
			err = because(b.ctx, err)
		}
	}
	return n, err
}

func (b *body) Close() error {
	b.end(false)
	return nil
}

// end gives the connection back, or closes it.
func (b *body) end(whole bool) {
	if b.over.Swap(true) {
		return
	}
	w := b.wire
	if b.stop() && whole && w.below.readNothingAhead(&w.of.ahead) && b.keep {
		w.of.kept.put(w)
		return
	}
	w.close()
}
