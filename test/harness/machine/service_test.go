package machine_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/d8-registry/registry/test/harness/machine"
)

// TestAServiceThatMoves keeps the connections that it has, sends new ones to who is
// behind it now, and refuses when nobody is.
func TestAServiceThatMoves(t *testing.T) {
	t.Parallel()
	run := newRun(t, t.TempDir())
	network, err := machine.NewNetwork(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort("10.112.0.7:5001")
	service, err := network.NewService(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	client, one, two := echo(t, network, "client"), echo(t, network, "one"), echo(t, network, "two")
	to := func(s *machine.Space) {
		t.Helper()
		if err := service.To(t.Context(), s, "80"); err != nil {
			t.Fatal(err)
		}
	}
	refused := func() {
		t.Helper()
		if _, err := client.DialContext(t.Context(), "tcp", at.String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("with nobody behind it: %v", err)
		}
	}
	refused()
	to(one)
	old := dial(t, client, at)
	old.says(t, "one")
	to(two)
	dial(t, client, at).says(t, "two")
	old.says(t, "one")
	to(nil)
	refused()
	old.says(t, "one")
}

// echo is a namespace that answers each line on port 80 with its name.
func echo(t *testing.T, network *machine.Network, name string) *machine.Space {
	t.Helper()
	s, err := network.NewSpace(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen(t.Context(), ":80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					_, _ = fmt.Fprintln(conn, name)
				}
			}()
		}
	}()
	return s
}

type caller struct {
	net.Conn
	lines *bufio.Scanner
}

func dial(t *testing.T, from *machine.Space, at netip.AddrPort) caller {
	t.Helper()
	conn, err := from.DialContext(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return caller{conn, bufio.NewScanner(conn)}
}

// says asks once more.
func (c caller) says(t *testing.T, want string) {
	t.Helper()
	if _, err := fmt.Fprintln(c, "who?"); err != nil {
		t.Error(err)
	}
	if !c.lines.Scan() || c.lines.Text() != want {
		t.Errorf("%q (%v), want %q", c.lines.Text(), c.lines.Err(), want)
	}
}
