package inbound

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// client has connections of one address.
type client struct {
	port
	ip   byte
	open []net.Conn
}

// asks opens one more and shows credentials on it. One that is refused ends.
func (c *client) asks() (status int, retryAfter string) {
	c.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, c.ip)}}
	conn, err := dialer.DialContext(c.t.Context(), "tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, strings.ReplaceAll(known, "\n", "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		c.open = append(c.open, conn)
	} else if c.ends(conn, "one that was refused"); !resp.Close {
		c.t.Error("one that was refused is not told that its connection ends")
	}
	return resp.StatusCode, resp.Header.Get("Retry-After")
}

// takesAll opens connections until one is refused.
func (c *client) takesAll() int {
	for range 20 {
		if status, _ := c.asks(); status != http.StatusOK {
			break
		}
	}
	return len(c.open)
}

// TestAClientLeavesConnectionsFree: one gets half of them, two a third each, and who comes
// next is served in any case. Who gives some back gets others.
func TestAClientLeavesConnectionsFree(t *testing.T) {
	t.Parallel()
	p := listen(t, Limits{Connections: 12, PerAddress: 12}, nothing, nil)
	greedy, second, third := &client{port: p, ip: 2}, &client{port: p, ip: 3}, &client{port: p, ip: 4}
	if got := greedy.takesAll(); got != 6 {
		t.Errorf("the first has %d of 12", got)
	}
	if status, wait := greedy.asks(); status != http.StatusTooManyRequests || wait != later {
		t.Errorf("%d, Retry-After %q", status, wait)
	}
	if got := p.closed(perClient); got != 2 {
		t.Errorf("%v counted", got)
	}
	until(t, "they are gone", func() bool { return p.open("false") == 0 })
	if got := second.takesAll(); got != 3 {
		t.Errorf("the second has %d of 12", got)
	}
	for range 2 {
		until(t, "who was refused is gone", func() bool { return p.open("false") == 0 })
		if status, _ := third.asks(); status != http.StatusOK {
			t.Errorf("the third has %d, then %d", len(third.open), status)
		}
	}
	for _, c := range greedy.open {
		_ = c.Close()
	}
	until(t, "its own are gone", func() bool { return p.open("true") == 5 })
	if greedy.open = nil; greedy.takesAll() != 4 {
		t.Errorf("who gave all back has %d of 7", len(greedy.open))
	}
}

// TestOneAddressMayBeAll: on a node's loopback there is nobody to leave some to.
func TestOneAddressMayBeAll(t *testing.T) {
	t.Parallel()
	limits := Loopback()
	limits.Connections = 6
	node := &client{port: listen(t, limits, nothing, nil), ip: 1}
	for range 6 {
		if status, _ := node.asks(); status != http.StatusOK {
			t.Errorf("%d of 6, then %d", len(node.open), status)
		}
	}
}

// TestStrangersTakeNothingOfClients: they are closed for whoever comes next, and whoever has
// credentials gets as many connections beside them as without.
func TestStrangersTakeNothingOfClients(t *testing.T) {
	t.Parallel()
	p := listen(t, Limits{Connections: 12, Anonymous: 6, PerAddress: 12}, nothing, nil)
	for range 5 {
		_ = p.dial()
	}
	until(t, "they have come", func() bool { return p.open("false") == 5 })
	client := &client{port: p, ip: 2}
	if got := client.takesAll(); got != 6 {
		t.Errorf("it has %d of 12", got)
	}
}
