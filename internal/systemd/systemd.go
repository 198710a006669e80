package systemd

import (
	"context"
	"errors"
)

// ErrUnsupported says that there is no way to restart the service from here;
// the error's text tells what to do by hand.
var ErrUnsupported = errors.New("unsupported")

// Unit is one service of the host.
type Unit struct {
	root, name string
}

// Open finds the host's systemd below root (as /proc/1/root) and one of its
// units, such as "containerd.service". Nothing is connected yet.
func Open(root, name string) *Unit { return &Unit{root: root, name: name} }

// Check says, in words, why the unit must not or cannot be restarted; nil
// when containers survive its restart.
func (u *Unit) Check(ctx context.Context) error { return errors.New("not yet") }

// Restart restarts the unit and returns when systemd says that it is up, or
// why not.
func (u *Unit) Restart(ctx context.Context) error { return errors.New("not yet") }
