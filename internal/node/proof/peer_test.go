package proof

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestWhoseConnection: the kernel knows whose end of a connection it is.
func TestWhoseConnection(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Skip("no loopback of that kind:", err)
		}
		defer func() { _ = l.Close() }()
		ours, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ours.Close() }()
		proc := processes("/proc")
		if err := proc.holds(os.Getpid(), ours.LocalAddr().String()); err != nil {
			t.Errorf("our own: %v", err)
		}
		// The other end, which is ours too, is not what is asked for; and there is
		// nothing of this process on the discard port.
		if err := proc.holds(os.Getpid(), "127.0.0.1:9"); !errors.Is(err, errElsewhere) {
			t.Errorf("a connection that is not there: %v", err)
		}
	}
}

// TestAnothersConnection: the nonce and the token can be copied, the process
// that asks cannot.
func TestAnothersConnection(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port+"; read -u 3")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Wait() }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	peer := conn.RemoteAddr().String()
	proc := processes("/proc")
	if err := proc.holds(other.Process.Pid, peer); err != nil {
		t.Errorf("its own: %v", err)
	}
	if err := proc.holds(os.Getpid(), peer); !errors.Is(err, errElsewhere) || !strings.HasSuffix(err.Error(), `process "bash" made it`) {
		t.Errorf("another's: %v", err)
	}
}

// TestUnknownConnection: where the kernel is not asked nothing is believed, but
// nothing is said against containerd either.
func TestUnknownConnection(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		proc processes
		pid  int
		peer string
	}{
		"no address":     {"/proc", os.Getpid(), ""},
		"no such folder": {"/nonexistent", os.Getpid(), "127.0.0.1:1"},
		"no process":     {"/proc", 1 << 30, "127.0.0.1:1"},
	} {
		if err := row.proc.holds(row.pid, row.peer); err == nil || errors.Is(err, errElsewhere) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKernelAddress(t *testing.T) {
	t.Parallel()
	if address, ok := kernelAddress("nonsense"); ok {
		t.Error(address)
	}
	// As on a little-endian machine; elsewhere the kernel writes it otherwise.
	got, ok := kernelAddress("0100007F:1389")
	if want := netip.MustParseAddrPort("127.0.0.1:5001"); !ok || got != want && got != netip.MustParseAddrPort("1.0.0.127:5001") {
		t.Errorf("%v, %t, want %v", got, ok, want)
	}
}
