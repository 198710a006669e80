package systemd_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/d8-registry/registry/internal/node/systemd"
)

const busConfig = `<busconfig><type>system</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow user="*"/></policy></busconfig>`

const (
	manager = "org.freedesktop.systemd1"
	object  = godbus.ObjectPath("/org/freedesktop/systemd1")
)

// fake is a manager of units behind a real bus.
type fake struct {
	conn  *godbus.Conn
	asked chan string

	mu     sync.Mutex
	result string // of the next job
}

// RestartUnit is called over the bus.
func (f *fake) RestartUnit(name, mode string) (godbus.ObjectPath, *godbus.Error) {
	f.asked <- name + " " + mode
	job := object + "/job/7"
	f.mu.Lock()
	result := f.result
	f.mu.Unlock()
	go func() { _ = f.conn.Emit(object, manager+".Manager.JobRemoved", uint32(7), job, name, result) }()
	return job, nil
}

// ResetFailedUnit is called over the bus.
func (f *fake) ResetFailedUnit(string) *godbus.Error { return nil }

// Subscribe is called over the bus.
func (f *fake) Subscribe() *godbus.Error { return nil }

// properties of the one unit.
type properties map[string]map[string]godbus.Variant

// GetAll is called over the bus.
func (p properties) GetAll(of string) (map[string]godbus.Variant, *godbus.Error) { return p[of], nil }

// Get is called over the bus.
func (p properties) Get(of, name string) (godbus.Variant, *godbus.Error) { return p[of][name], nil }

// bus starts a real bus below a root, with a fake manager on it.
func bus(t *testing.T, killMode string) (root string, f *fake) {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	root, err = os.MkdirTemp("", "bus") // a socket's path has at most 107 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	socket := filepath.Join(root, "run/dbus/system_bus_socket")
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(root, "bus.conf")
	if err := os.WriteFile(config, []byte(strings.Replace(busConfig, "SOCKET", socket, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), daemon, "--config-file="+config, "--nofork", "--nopidfile")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the test's context ends it
	f = &fake{result: "done", asked: make(chan string, 1)}
	for range 100 {
		if f.conn, err = godbus.Connect("unix:path="+socket, godbus.WithContext(t.Context())); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // nobody tells when the bus listens
	}
	if err != nil {
		t.Fatal(err)
	}
	unit := object + "/unit/" + godbus.ObjectPath(dbus.PathBusEscape("containerd.service"))
	props := properties{
		manager + ".Unit":    {"LoadState": godbus.MakeVariant("loaded")},
		manager + ".Service": {"KillMode": godbus.MakeVariant(killMode), "Result": godbus.MakeVariant("exit-code")},
	}
	for _, err := range []error{
		f.conn.Export(f, object, manager+".Manager"),
		f.conn.Export(props, unit, "org.freedesktop.DBus.Properties"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if reply, err := f.conn.RequestName(manager, godbus.NameFlagDoNotQueue); err != nil || reply != godbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return root, f
}

func TestBehindTheBus(t *testing.T) {
	t.Parallel()
	root, f := bus(t, "process")
	u := systemd.Open(root, "containerd.service")
	if err := u.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := u.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-f.asked; got != "containerd.service replace" {
		t.Fatal(got)
	}
	f.mu.Lock()
	f.result = "failed"
	f.mu.Unlock()
	if err := u.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), `"failed" (exit-code)`) {
		t.Fatal(err)
	}
}

func TestKillModeBehindTheBus(t *testing.T) {
	t.Parallel()
	root, _ := bus(t, "control-group")
	err := systemd.Open(root, "containerd.service").Check(t.Context())
	if !errors.Is(err, systemd.ErrUnsupported) || !strings.Contains(err.Error(), "KillMode=control-group") {
		t.Fatal(err)
	}
}

func TestNoSystemd(t *testing.T) {
	t.Parallel()
	u := systemd.Open(t.TempDir(), "containerd.service")
	for _, err := range []error{u.Check(t.Context()), u.Restart(t.Context()), systemd.Open("/", "").Check(t.Context())} {
		if !errors.Is(err, systemd.ErrUnsupported) || !strings.Contains(err.Error(), "restart containerd yourself") {
			t.Error(err)
		}
	}
}
