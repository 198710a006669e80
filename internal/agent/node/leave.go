package node

import (
	"context"
	"errors"
	"path/filepath"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// errStays ends an agent that had cleared its folder and is wanted again: the
// next one starts as on a fresh node.
var errStays = errors.New("the module stays on this node: starting anew")

// dismissed reports whether the agent is to leave the node for good, and has
// begun to, itself or before a restart. Nothing else is looked at any more: what
// it would be looked at with is gone.
func (a *Agent) dismissed(v *view) bool {
	return ordered(v.own) && (a.left || v.own.Status.Left)
}

func ordered(own *registryv1alpha1.RegistryNode) bool { return own != nil && own.Spec.Leave }

// dismiss carries out the order to leave on a node that is as it was before the
// first layout: scripts end, and the state folder is cleared. A fresh node is
// one with an empty folder, so this may be cut off anywhere.
func (a *Agent) dismiss(ctx context.Context, v *view) {
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

// recalled reports whether an agent that has left is wanted again.
func (a *Agent) recalled() bool {
	own := a.report.latest()
	return a.left && own != nil && !own.Spec.Leave
}

// vanish removes the folder itself, with what a half that was started again has
// put there, when the agent that has left ends.
func (a *Agent) vanish() {
	own := a.report.latest()
	if done := a.left || own != nil && own.Status.Left; !done || own != nil && !own.Spec.Leave {
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
