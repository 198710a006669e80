package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/report"
)

// errStays ends an agent that has cleared its folder when the node is to keep the
// module after all: the next agent starts as on a fresh node.
var errStays = errors.New("the module stays on this node: starting anew")

// cleanup carries out the order to leave the node, when nothing of ours is in
// containerd's files any more: scripts end, and the state folder goes.
type cleanup struct {
	state   *handoff.Hold
	dir     string // its path
	outside string // its path outside of the container
	scripts *scripts
	log     *slog.Logger

	started bool // scripts were ended
	cleared bool // the folder was cleared
}

func leaveOrdered(own *registryv1alpha1.RegistryNode) bool { return own != nil && own.Spec.Leave }

// begun reports whether the cleanup has begun, by this agent or before a restart,
// and is still ordered. Then nothing else is looked at: what that takes was in
// the folder. A node with a layout has not begun, whatever an old report says.
func (c *cleanup) begun(own *registryv1alpha1.RegistryNode) bool {
	return leaveOrdered(own) && (c.cleared || own.Status.Left) && c.noLayout()
}

// noLayout reports whether the serving half has no layout on disk.
func (c *cleanup) noLayout() bool {
	_, err := c.state.Layout()
	return errors.Is(err, fs.ErrNotExist)
}

// run clears the state folder. It may be cut off anywhere: a folder that is
// cleared in part is one of a fresh node.
func (c *cleanup) run(ctx context.Context, r *report.Report) {
	c.started = true
	if c.scripts.end(ctx); ctx.Err() != nil {
		return
	}
	if err := c.state.Clear(); err != nil {
		r.Retry = true
		r.Problemf("%v", err)
		return
	}
	if !c.cleared {
		c.log.Info("the module leaves this node: its folder is cleared", "folder", c.dir)
	}
	c.cleared = true
	r.Status.Legacy, r.Status.Left = true, true
}

// recalled is errStays if the cleanup has begun and the node is to keep the
// module: the order is withdrawn, or there is a layout.
func (c *cleanup) recalled(own *registryv1alpha1.RegistryNode) error {
	if c.started && own != nil && (!own.Spec.Leave || !c.noLayout()) {
		return errStays
	}
	return nil
}

// patience is longer than the serving half drains, which ends at the same time as
// this one.
const patience = 30 * time.Second

// removeDir removes the folder itself when the agent that has left ends, with
// what was written there since. It waits for the serving half: if that goes on, so
// does its folder. If the RegistryNode is gone, the agent relies on what it did itself.
func (c *cleanup) removeDir(ctx context.Context, own *registryv1alpha1.RegistryNode) {
	if gone := own == nil && c.cleared && c.noLayout(); !gone && !c.begun(own) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := c.state.Remove(ctx, c.outside); err != nil {
		c.log.Warn("the agent's folder stays", "err", err)
	}
}
