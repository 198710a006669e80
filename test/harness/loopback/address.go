// Package loopback has addresses for what a test starts later, and for its clients. Start at
// Address.
package loopback

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"testing"
	"time"
)

// Address is a host and port on which nobody else listens, now or later: the IP is
// this test's own. On 127.0.0.1 a port that is free now may be the end of another
// test's connection a moment later.
func Address(t testing.TB) string {
	t.Helper()
	address, err := Free(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Free is Address for what outlives a test.
func Free(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(own().String(), "0"))
	if err != nil {
		return "", fmt.Errorf("an address of our own: %w", err)
	}
	_ = l.Close() // nothing was accepted
	Freed(l.Addr().String())
	return l.Addr().String(), nil
}

// patience is for Freed: what is started runs its program long before.
const patience = 10 * time.Second

// Freed waits until nobody listens on an address on which this process has just stopped: whoever
// is to listen there again would be told that it is in use. A child that is being started has all
// sockets of its parent until it runs its program.
func Freed(address string) {
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(time.Millisecond) {
		c, err := new(net.Dialer).Dial("tcp", address)
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

// Client dials from an address of its own, as a node or a Pod does: what a server allows one
// address (inbound.Limits) is then each client's own.
func Client() *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: own()}}
}

// own is an IP that nobody else has.
func own() net.IP {
	ip := make(net.IP, net.IPv4len)
	_, _ = rand.Read(ip)                        // it never fails
	ip[0], ip[1], ip[3] = 127, ip[1]|1, ip[3]|1 // not 127.0.0.0/16, nor the address of a network
	return ip
}
