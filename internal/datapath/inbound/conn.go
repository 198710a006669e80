package inbound

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a connection of a client. Whatever deadlines the server sets, an anonymous
// one ends in time, and so does one whose client takes nothing of what we send.
type conn struct {
	net.Conn
	gate    *gate
	since   time.Time
	address netip.Addr
	secured bool // TLS is over it
	trusted atomic.Bool
	counted atomic.Bool

	// Of the gate, with its lock held.
	inAll, ofAddress *list.Element
	gone             bool

	spared func() bool // it is not cut any more

	out      sync.Mutex // held by who writes
	together *[]byte    // what waits for the rest of what belongs together

	mu    sync.Mutex
	read  time.Time // what the server wants
	write time.Time
}

type connKey struct{}

// withConn puts the connection of a request into its context.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
		if of, ok := c.(*conn); ok {
			of.secured = true
		}
	}
	return context.WithValue(ctx, connKey{}, c)
}

// Known is put behind what checks credentials: whoever comes through is no stranger,
// and neither is the rest of their connection. Who has too many is asked to come later.
func Known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*conn); ok && !c.know() {
			c.late(perClient)
			w.Header().Set("Retry-After", later)
			refuse(w, r, http.StatusTooManyRequests, "TOOMANYREQUESTS", "too many connections of this client")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// know is false when the client has too many connections.
func (c *conn) know() bool {
	if c.trusted.Load() {
		return true
	}
	if !c.gate.known(c) {
		return false
	}
	c.trusted.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.Conn.SetReadDeadline(c.read) // an error means that it is closed
	return true
}

// latest is the end of an anonymous connection, for a deadline that is later or none.
func (c *conn) latest(t time.Time) time.Time {
	if c.trusted.Load() {
		return t
	}
	end := c.since.Add(c.gate.limits.Stranger)
	if t.IsZero() || t.After(end) {
		return end
	}
	return t
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return c.Conn.SetReadDeadline(c.latest(t))
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.Conn.SetWriteDeadline(c.latest(t))
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.trusted.Load() {
		c.mu.Lock()
		interrupted := !c.read.IsZero() && c.read.Before(c.since) // as the server does after each request
		c.mu.Unlock()
		if !interrupted {
			c.late(anonymous)
		}
	}
	return n, err
}

// Write keeps what belongs together until all of it is there, see Together.
func (c *conn) Write(p []byte) (int, error) {
	c.out.Lock()
	defer c.out.Unlock()
	if c.together != nil {
		*c.together = append(*c.together, p...)
		return len(p), nil
	}
	return c.send(p)
}

// send has a limit of its own unless the server has set one: for each record of TLS, however
// many go out at once.
func (c *conn) send(p []byte) (sent int, err error) {
	for {
		c.mu.Lock()
		own := c.write.IsZero()
		if own {
			_ = c.Conn.SetWriteDeadline(c.latest(time.Now().Add(c.gate.limits.Unread))) // an error is that of Write too
		}
		c.mu.Unlock()
		n, err := c.Conn.Write(p[sent:])
		sent += n
		late := own && errors.Is(err, os.ErrDeadlineExceeded)
		if late && n >= record {
			continue
		}
		if late {
			c.late(unread)
		}
		return sent, err
	}
}

// late counts a connection that ends for a limit, once.
func (c *conn) late(why reason) {
	if !c.counted.Swap(true) {
		c.gate.count(why)
	}
}

func (c *conn) Close() error {
	c.spared()
	c.gate.leave(c)
	return c.Conn.Close()
}
