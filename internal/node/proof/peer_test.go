package proof

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
		if err := proc.holds(os.Getpid(), ours.LocalAddr().String(), l.Addr().String()); err != nil {
			t.Errorf("our own: %v", err)
		}
		// The other end, which is ours too, is not what is asked for; and there is
		// nothing of this process on the discard port.
		if err := proc.holds(os.Getpid(), "127.0.0.1:9", l.Addr().String()); !errors.Is(err, errElsewhere) {
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
	proc, agent := processes("/proc"), conn.LocalAddr().String()
	if err := proc.holds(other.Process.Pid, peer, agent); err != nil {
		t.Errorf("its own: %v", err)
	}
	if err := proc.holds(os.Getpid(), peer, agent); !errors.Is(err, errElsewhere) || !strings.HasSuffix(err.Error(), `process "bash" made it`) {
		t.Errorf("another's: %v", err)
	}
}

// TestSharedLocalAddress: Linux gives one local address to connections of several
// processes if their remote addresses differ. Only the one to the agent counts.
func TestSharedLocalAddress(t *testing.T) {
	t.Parallel()
	const local, agent = "127.0.0.1:40000", "127.0.0.1:5001"
	dir := t.TempDir()
	row := func(local, remote string, inode int) string {
		kernel := func(s string) string {
			a := netip.MustParseAddrPort(s)
			ip := a.Addr().As4()
			return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), a.Port())
		}
		return fmt.Sprintf("   1: %s %s 01 00000000:00000000 00:00000000 00000000     0        0 %d 1\n", kernel(local), kernel(remote), inode)
	}
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		row(local, "127.0.0.1:6443", 11) + // another process
		row(agent, local, 12) + // the agent's end
		row(local, agent, 13) + row(local, "127.0.0.2:5001", 14)
	for pid, row := range map[int]struct {
		socket string
		want   error
	}{1: {"socket:[13]", nil}, 2: {"socket:[11]", errElsewhere}, 3: {"socket:[14]", errElsewhere}} {
		process := filepath.Join(dir, strconv.Itoa(pid))
		err := errors.Join(
			os.MkdirAll(filepath.Join(process, "net"), 0o700), os.Mkdir(filepath.Join(process, "fd"), 0o700),
			os.WriteFile(filepath.Join(process, "net", "tcp"), []byte(table), 0o600), os.Symlink(row.socket, filepath.Join(process, "fd", "3")))
		if err != nil {
			t.Fatal(err)
		}
		if err := processes(dir).holds(pid, local, agent); !errors.Is(err, row.want) {
			t.Errorf("the process with %s: %v, want %v", row.socket, err, row.want)
		}
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
		if err := row.proc.holds(row.pid, row.peer, "127.0.0.1:5001"); err == nil || errors.Is(err, errElsewhere) {
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
