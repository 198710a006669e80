package loopback_test

import (
	"net"
	"testing"

	"github.com/d8-registry/registry/test/harness/loopback"
)

// TestAddress: each is on loopback, can be listened on, and is nobody else's.
func TestAddress(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 20 {
		address := loopback.Address(t)
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		host, _, err := net.SplitHostPort(l.Addr().String())
		if ip := net.ParseIP(host); err != nil || !ip.IsLoopback() || host == "127.0.0.1" || seen[host] {
			t.Errorf("%s: %v", address, err)
		}
		seen[host] = true
		_ = l.Close()
	}
}
