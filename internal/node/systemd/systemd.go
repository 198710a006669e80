package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// ErrUnsupported says that the service cannot be restarted from here. The error's
// text says what to do by hand.
var ErrUnsupported = errors.New("unsupported")

// Where systemd listens: its own socket, only for root, and the bus.
const (
	privateSocket = "/run/systemd/private"
	busSocket     = "/run/dbus/system_bus_socket"
)

// Unit is one service of the host.
type Unit struct {
	root, name string
}

// Open names a unit of the host, such as "containerd.service". root is the host's
// file system, such as /proc/1/root. Nothing is connected yet.
func Open(root, name string) *Unit { return &Unit{root: root, name: name} }

// Check says why the unit must not or cannot be restarted; nil if containers
// survive its restart.
func (u *Unit) Check(ctx context.Context) error {
	conn, err := u.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	unit, err := conn.GetUnitPropertiesContext(ctx, u.name)
	if err != nil {
		return fmt.Errorf("ask systemd for %s: %w", u.name, err)
	}
	service, err := conn.GetUnitTypePropertiesContext(ctx, u.name, "Service")
	if err != nil {
		return fmt.Errorf("ask systemd for %s: %w", u.name, err)
	}
	return u.judge(unit, service)
}

// judge is Check by the unit's properties.
func (u *Unit) judge(unit, service map[string]any) error {
	if state, _ := unit["LoadState"].(string); state != "loaded" {
		return fmt.Errorf("%w: systemd has no unit %s (it is %q); restart containerd yourself", ErrUnsupported, u.name, state)
	}
	for _, property := range []string{"RefuseManualStart", "RefuseManualStop"} {
		if no, _ := unit[property].(bool); no {
			return fmt.Errorf("%w: %s has %s=yes, so that nobody may restart it", ErrUnsupported, u.name, property)
		}
	}
	// With KillMode=mixed too, all processes of the unit's group are killed, and the
	// shims of the containers are in it.
	if mode, _ := service["KillMode"].(string); mode != "process" && mode != "none" {
		return fmt.Errorf("%w: %s has KillMode=%s, so that its restart would kill all containers of the node; "+
			"set KillMode=process in its [Service], run `systemctl daemon-reload`, and this agent goes on", ErrUnsupported, u.name, mode)
	}
	for _, property := range []string{"BoundBy", "RequiredBy", "ConsistsOf"} {
		if units, _ := unit[property].([]string); slices.Contains(units, "docker.service") {
			return fmt.Errorf("%w: docker.service depends on %s (%s) and would be restarted with it, with Docker's own containers; "+
				"take that dependency out, or restart both yourself", ErrUnsupported, u.name, property)
		}
	}
	return nil
}

// Restart restarts the unit and returns when systemd says that it is up, or
// why not.
func (u *Unit) Restart(ctx context.Context) error {
	conn, err := u.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// A unit that failed too often is not started again until that is reset.
	_ = conn.ResetFailedUnitContext(ctx, u.name) // there may be nothing to forget
	done := make(chan string, 1)
	if _, err := conn.RestartUnitContext(ctx, u.name, "replace", done); err != nil {
		return fmt.Errorf("restart %s: %w", u.name, err)
	}
	select {
	case result := <-done:
		if result == "done" {
			return nil
		}
		return fmt.Errorf("restart %s: systemd's job ended with %q%s; `journalctl -u %s` says why", u.name, result, u.why(ctx, conn), u.name)
	case <-ctx.Done():
		return fmt.Errorf("restart %s: systemd has not said yet how it ended: %w", u.name, ctx.Err())
	}
}

// why is how the unit itself ended, if systemd says so.
func (u *Unit) why(ctx context.Context, conn *dbus.Conn) string {
	p, err := conn.GetServicePropertyContext(ctx, u.name, "Result")
	if err != nil {
		return ""
	}
	s, _ := p.Value.Value().(string)
	if s == "" || s == "success" {
		return ""
	}
	return " (" + s + ")"
}

// connect finds systemd below the host's root.
func (u *Unit) connect(ctx context.Context) (*dbus.Conn, error) {
	if !strings.HasSuffix(u.name, ".service") {
		return nil, fmt.Errorf("%w: containerd is no service of systemd on this node; "+
			"set config_path in the main file and restart containerd yourself", ErrUnsupported)
	}
	var failed error
	for _, socket := range []string{privateSocket, busSocket} {
		path := filepath.Join(u.root, socket)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		conn, err := dbus.NewConnection(func() (*godbus.Conn, error) { return dial(ctx, path, socket == busSocket) })
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("connect to systemd at %s: %w", path, err))
			continue
		}
		if socket == busSocket {
			// On the bus, systemd reports the end of jobs only to subscribers.
			if err := conn.Subscribe(); err != nil {
				conn.Close()
				failed = errors.Join(failed, fmt.Errorf("follow systemd's jobs at %s: %w", path, err))
				continue
			}
		}
		return conn, nil
	}
	if failed != nil {
		return nil, failed
	}
	return nil, fmt.Errorf("%w: this node has no systemd (neither %s nor %s is there); "+
		"set config_path in containerd's main file and restart containerd yourself", ErrUnsupported, privateSocket, busSocket)
}

// dial makes one connection, authenticated as our own user. Only a bus needs a
// greeting.
func dial(ctx context.Context, path string, bus bool) (*godbus.Conn, error) {
	conn, err := godbus.Dial("unix:path="+godbus.EscapeBusAddressValue(path), godbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	err = conn.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil && bus {
		err = conn.Hello()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
