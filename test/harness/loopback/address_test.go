package loopback_test

import (
	"context"
	"net"
	"os/exec"
	"sync"
	"testing"
	"time"

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

// TestClient: a server sees another address of each.
func TestClient(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", loopback.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	seen := map[string]bool{}
	for range 20 {
		c, err := loopback.Client().DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		host, _, err := net.SplitHostPort(s.RemoteAddr().String())
		if ip := net.ParseIP(host); err != nil || !ip.IsLoopback() || host == "127.0.0.1" || seen[host] {
			t.Errorf("%s: %v", host, err)
		}
		seen[host] = true
		_, _ = c.Close(), s.Close()
	}
}

// TestFreed: an address can be listened on again at once, also while others start processes.
func TestFreed(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				_ = exec.Command("true").Run() // it is the starting that counts
			}
		})
	}
	defer all.Wait()
	defer stop()
	address := loopback.Address(t)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); loopback.Freed(address) {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}
