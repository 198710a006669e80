package inbound

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// gate counts the connections of one listener. Its lock is taken when a connection
// comes, shows credentials for the first time, and goes; never for a request.
type gate struct {
	name    string
	limits  Limits
	metrics *Metrics
	// room gets a token when a connection has gone or become known.
	room chan struct{}
	kept sync.Pool // of *[]byte with room, see Together

	mu        sync.Mutex
	total     int
	anonymous queue
	addresses map[netip.Addr]*queue // of those that are anonymous
	clients   map[netip.Addr]int    // how many are known
}

// queue holds connections, oldest first.
type queue struct{ list.List }

func (q *queue) oldest() *conn {
	if first := q.Front(); first != nil {
		if c, ok := first.Value.(*conn); ok {
			return c
		}
	}
	return nil
}

func newGate(name string, limits Limits, metrics *Metrics) *gate {
	return &gate{
		name: name, limits: limits, metrics: metrics, room: make(chan struct{}, 1), addresses: map[netip.Addr]*queue{}, clients: map[netip.Addr]int{},
		kept: sync.Pool{New: func() any { p := make([]byte, 0, room); return &p }},
	}
}

// listener lets connections in one by one.
type listener struct {
	net.Listener
	gate   *gate
	closed chan struct{}
	once   sync.Once
	uncut  context.Context //nolint:containedctx // with its end all connections are closed
}

// Accept returns the next connection that may come in. While there is no room it
// takes no other one, and they wait in the kernel's queue.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, gate: l.gate, address: addressOf(raw)}
		for {
			wait, in := l.gate.enter(c)
			if in {
				c.spared = context.AfterFunc(l.uncut, func() { _ = raw.Close() })
				return c, nil
			}
			if wait == 0 {
				_ = raw.Close() // nobody is to know of it
				break
			}
			select {
			case <-l.gate.room:
			case <-time.After(wait):
			case <-l.closed:
				_ = raw.Close() // the other error is the one that matters
				return nil, net.ErrClosed
			}
		}
	}
}

// Close stops listening.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// enter lets a connection in, or says how long to wait for room; 0: it may not come
// in at all.
func (g *gate) enter(c *conn) (wait time.Duration, in bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	own := g.addresses[c.address]
	if g.limits.PerAddress > 0 && own != nil && own.Len() >= g.limits.PerAddress {
		oldest := own.oldest()
		if time.Since(oldest.since) < g.limits.Grace {
			g.count(perAddress)
			return 0, false
		}
		g.evict(oldest, perAddress)
	}
	if g.total >= g.limits.Connections || g.anonymous.Len() >= g.limits.Anonymous {
		oldest := g.anonymous.oldest()
		if oldest == nil {
			return time.Minute, false // all are known: until one goes
		}
		if young := g.limits.Grace - time.Since(oldest.since); young > 0 {
			return young, false
		}
		g.evict(oldest, crowded)
	}
	c.since = time.Now() // it may have waited for long
	g.total++
	own = g.addresses[c.address]
	if own == nil {
		own = &queue{}
		g.addresses[c.address] = own
	}
	c.inAll, c.ofAddress = g.anonymous.PushBack(c), own.PushBack(c)
	g.show(false, 1)
	return 0, true
}

// evict closes a connection for another one.
func (g *gate) evict(c *conn, why reason) {
	g.remove(c)
	g.count(why)
	_ = c.Conn.Close() // its goroutine sees it and ends
}

// known is called when credentials were shown on a connection. It is false when the client
// has as many as are free already: so whoever comes next finds some, as with turns (package
// queue). Strangers take none of those: they are closed for who comes next.
func (g *gate) known(c *conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.gone || c.inAll == nil {
		return true
	}
	if g.limits.PerAddress > 0 && g.clients[c.address] >= g.limits.Connections-(g.total-g.anonymous.Len()) {
		return false
	}
	g.forget(c)
	g.clients[c.address]++
	g.show(true, 1)
	g.wake()
	return true
}

// leave is called when a connection has ended.
func (g *gate) leave(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(c)
}

func (g *gate) remove(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	g.total--
	if c.inAll != nil {
		g.forget(c)
	} else {
		if g.clients[c.address]--; g.clients[c.address] == 0 {
			delete(g.clients, c.address)
		}
		g.show(true, -1)
	}
	g.wake()
}

// forget takes a connection from those that are anonymous.
func (g *gate) forget(c *conn) {
	g.anonymous.Remove(c.inAll)
	own := g.addresses[c.address]
	if own.Remove(c.ofAddress); own.Len() == 0 {
		delete(g.addresses, c.address)
	}
	c.inAll, c.ofAddress = nil, nil
	g.show(false, -1)
}

func (g *gate) wake() {
	select {
	case g.room <- struct{}{}:
	default: // one is waiting already
	}
}

func (g *gate) show(known bool, by float64) {
	g.metrics.open.WithLabelValues(g.name, strconv.FormatBool(known)).Add(by)
}

func (g *gate) count(why reason) { g.metrics.closed.WithLabelValues(g.name, string(why)).Inc() }

// addressOf is without the port; IPv4 in IPv6 is the same address.
func addressOf(c net.Conn) netip.Addr {
	at, _ := netip.ParseAddrPort(c.RemoteAddr().String()) // zero for what has none
	return at.Addr().Unmap().WithZone("")
}
