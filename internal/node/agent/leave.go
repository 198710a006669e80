package agent

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// errStays ends an agent that had cleared its folder and is wanted again: the
// next one starts as on a fresh node.
var errStays = errors.New("the module stays on this node: starting anew")

// dismissed reports whether the agent is to leave the node for good, and has
// begun to, itself or before a restart. Nothing else is looked at any more: what
// it would be looked at with is gone. A node with a layout is not one that was
// left, whatever an old report says.
func (a *Agent) dismissed(own *registryv1alpha1.RegistryNode) bool {
	return ordered(own) && (a.left || own.Status.Left) && a.bare()
}

// bare reports whether the serving half has no layout on disk.
func (a *Agent) bare() bool {
	_, err := a.folder.Layout()
	return errors.Is(err, fs.ErrNotExist)
}

func ordered(own *registryv1alpha1.RegistryNode) bool { return own != nil && own.Spec.Leave }

// dismiss carries out the order to leave on a node that is as it was before the
// first layout: scripts end, and the state folder is cleared. A fresh node is
// one with an empty folder, so this may be cut off anywhere.
func (a *Agent) dismiss(ctx context.Context, v *view) {
	a.leaving = true
	if a.endScripts(ctx); ctx.Err() != nil {
		return
	}
	if err := a.folder.Clear(); err != nil {
		v.retry = true
		v.trouble("%v", err)
		return
	}
	if !a.left {
		a.log.Info("the module leaves this node: its folder is cleared", "folder", a.cfg.StateDir)
	}
	a.left = true
	v.status.Legacy, v.status.Left = true, true
}

// recalled reports whether an agent that has left, or has begun to, is wanted
// again: the order is withdrawn, or there is a layout.
func (a *Agent) recalled() bool {
	own := a.report.latest()
	return a.leaving && own != nil && (!own.Spec.Leave || !a.bare())
}

// vanish removes the folder itself, with what a half that was started again has
// put there, when the agent that has left ends. An agent whose RegistryNode went
// meanwhile goes by what it did itself.
func (a *Agent) vanish() {
	own := a.report.latest()
	if gone := own == nil && a.left && a.bare(); !gone && !a.dismissed(own) {
		return
	}
	if err := a.folder.Vanish(filepath.Join(a.host.Root, a.cfg.StateDir)); err != nil {
		a.log.Warn("the agent's folder stays", "err", err)
	}
}

// endScripts returns when no script runs, and none will.
func (a *Agent) endScripts(ctx context.Context) {
	a.stopScripts()
	select {
	case <-a.scriptsEnded:
	case <-ctx.Done():
	}
}
