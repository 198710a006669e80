// Package loopback has addresses for what a test starts later. Start at Address.
package loopback

import (
	"context"
	"crypto/rand"
	"net"
	"testing"
)

// Address is a host and port on which nobody else listens, now or later: the IP is
// this test's own. On 127.0.0.1 a port that is free now may be the end of another
// test's connection a moment later.
func Address(t testing.TB) string {
	t.Helper()
	ip := make(net.IP, net.IPv4len)
	if _, err := rand.Read(ip); err != nil {
		t.Fatal(err)
	}
	ip[0], ip[1], ip[3] = 127, ip[1]|1, ip[3]|1 // not 127.0.0.0/16, nor the address of a network
	l, err := new(net.ListenConfig).Listen(context.WithoutCancel(t.Context()), "tcp", net.JoinHostPort(ip.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
