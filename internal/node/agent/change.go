package agent

import (
	"context"
	"errors"
	"path/filepath"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

// changer changes containerd's main file; a reconfigure.Reconfigurer.
type changer interface {
	Pass(ctx context.Context, w reconfigure.Want, approved string) (reconfigure.Status, error)
	Edited(w reconfigure.Want) (bool, error)
}

// task is what a pass asks of containerd's main file.
type task struct {
	facts *containerd.Facts
	lost  bool // containerd was seen going elsewhere, although all is set up
	// prove is nil while nothing could be proved: then nothing is begun.
	prove func(ctx context.Context, path string) error
	// legacy takes our edit back.
	legacy bool
}

// change edits containerd's main file and restarts containerd, if that is
// needed, was approved and can be undone. It is asked in every pass: an earlier
// agent may have been stopped in the middle. It reports whether all is as wanted.
func (a *Agent) change(ctx context.Context, v *view, t task) bool {
	a.remember(func(m *memory) {
		m.Main = mainFile{Path: t.facts.ConfigFile, Unit: t.facts.Unit, Major: t.facts.Major()}
	})
	w := a.main()
	switch f := t.facts; {
	case t.legacy:
		w.Legacy = true
	case t.prove == nil || f.Preflight != containerd.Ready || f.Generated || a.cfg.HostsDir != "":
		// Nothing is wanted of what we may not or cannot edit.
	case f.NeedsPath != "":
		w.Path = f.NeedsPath
	case t.lost && f.ChangedSince != "":
		w.Path, w.Unread = f.Effective, true
	}
	return a.reconfigure(ctx, v, w, t.prove)
}

// finishChange looks after a change that an earlier agent was stopped in, while
// containerd or the other half does not answer: it may be the change that keeps
// them from it.
func (a *Agent) finishChange(ctx context.Context, v *view, l layout.Layout, s *served) {
	if a.memory.Main.Path == "" || v.hold {
		a.keepRestart(v)
		return
	}
	var prove func(ctx context.Context, path string) error
	if s != nil && !l.IsZero() {
		prove = a.proveChange(l, s) // it may only be slow to come up
	}
	a.reconfigure(ctx, v, a.main(), prove)
	if s == nil && v.status.Restart == nil && !v.again {
		a.keepRestart(v) // what waits goes on to wait
	}
}

func (a *Agent) main() reconfigure.Want {
	m := a.memory.Main
	return reconfigure.Want{File: filepath.Join(a.cfg.HostRoot, m.Path), Shown: m.Path, Major: m.Major}
}

// keepRestart goes on reporting a restart that this pass could not look after.
func (a *Agent) keepRestart(v *view) {
	if v.own != nil && a.mine(v.own) {
		v.status.Restart = v.own.Status.Restart
	}
}

func (a *Agent) reconfigure(ctx context.Context, v *view, w reconfigure.Want, prove func(ctx context.Context, path string) error) bool {
	approved := ""
	if v.own != nil {
		approved = v.own.Spec.ApprovedRestart
	}
	a.proving = prove
	s, err := a.changer.Pass(ctx, w, approved)
	var refusal *reconfigure.Refusal
	switch {
	case errors.As(err, &refusal):
		v.status.Preflight = string(containerd.Unsupported)
		v.trouble("%s", refusal.Sentence)
	case err != nil:
		a.keepRestart(v)
		v.trouble("%s", brief(err))
	}
	if s.Phase != reconfigure.None {
		v.status.Restart = &registryv1alpha1.RestartStatus{ID: s.ID, Phase: string(s.Phase), Message: s.Message}
		v.trouble("%s", s.Message)
	}
	if s.Committed {
		a.forget.Store(true)
		v.again = true
	}
	return err == nil && s.Phase == reconfigure.None && !s.Committed
}

// reportRunning says that containerd is about to be restarted; the rest of the
// report stays as it was.
func (a *Agent) reportRunning(ctx context.Context, s reconfigure.Status) {
	own := a.report.latest()
	if own == nil {
		return
	}
	status := *own.Status.DeepCopy()
	status.Restart = &registryv1alpha1.RestartStatus{ID: s.ID, Phase: string(s.Phase), Message: s.Message}
	if err := a.report.write(ctx, status); err != nil {
		a.log.Warn("report not written", "err", err)
	}
}

// proveChanged is asked by a change that is under way. The way back has nothing
// to prove.
func (a *Agent) proveChanged(ctx context.Context, path string) error {
	switch {
	case path == "":
		return nil
	case a.proving == nil:
		return errors.New("the serving half of the agent has nothing to prove it with")
	}
	return a.proving(ctx, path)
}

// unit is the service of containerd on the host, whatever its name turns out to
// be.
type unit struct{ a *Agent }

func (u unit) service() reconfigure.Service {
	return serviceOf(u.a.cfg, u.a.host, u.a.memory.Main.Unit, u.a.log)
}

// Check implements reconfigure.Service.
func (u unit) Check(ctx context.Context) error { return u.service().Check(ctx) }

// Restart implements reconfigure.Service.
func (u unit) Restart(ctx context.Context) error { return u.service().Restart(ctx) }
