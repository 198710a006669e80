package reconfigure

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/mainfile"
)

// resume finishes what an earlier pass left. over says that there was something:
// then the status is that of the whole pass.
func (r *Reconfigurer) resume(ctx context.Context, w Want) (s Status, over bool, err error) {
	j := &journal{}
	found, err := r.load(journalName, j)
	if err != nil {
		return Status{}, false, err
	}
	if found && j.Shown != w.Shown {
		// containerd was started with another main file meanwhile.
		w.File, w.Shown = strings.TrimSuffix(w.File, w.Shown)+j.Shown, j.Shown
	}
	p, err := r.mapPaths(w)
	if err != nil {
		return Status{}, false, err
	}
	if !found {
		return Status{}, false, r.removeLeftovers(p)
	}
	r.report(ctx, p, j)
	switch j.Step {
	case stepUndo, stepUndoRestart:
		s, err = r.rollBack(ctx, p, j)
	case stepRestart:
		s, err = r.restartAndCheck(ctx, p, j)
	case stepWrite:
		return r.resumeWrite(ctx, p, j)
	default:
		return Status{}, false, fmt.Errorf("%s names an unknown step %q", journalName, j.Step)
	}
	return s, true, err
}

// resumeWrite continues a change of which the file may or may not be written.
func (r *Reconfigurer) resumeWrite(ctx context.Context, p pathMapping, j *journal) (s Status, over bool, err error) {
	data, there, err := r.read(p)
	if err != nil {
		return Status{}, false, err
	}
	if now := sum(data, there); now != j.After || now == j.Before {
		return Status{}, false, r.giveWay(p, j, data)
	}
	if err := r.fs.SyncDir(p.dir()); err != nil {
		return Status{}, false, fmt.Errorf("save %s: %w", p.shown, err)
	}
	instance, err := r.instance(ctx)
	if err == nil && instance != j.Instance {
		// containerd was restarted, before or after the file was written. If the change
		// has its effect, no other restart is needed.
		if err := r.check(ctx, p, j, true); err == nil && j.Path != "" {
			s, err = r.commit(p, j)
			return s, true, err
		}
		if ctx.Err() != nil {
			return Status{}, false, fmt.Errorf("look at containerd: %w", ctx.Err())
		}
	}
	if err := r.advance(ctx, j, stepRestart); err != nil {
		return Status{}, false, err
	}
	s, err = r.restartAndCheck(ctx, p, j)
	return s, true, err
}

// giveWay ends a change that was not written, or over which another program
// wrote. If our edit is in what that wrote, it is recorded, so that it can be
// taken out later.
func (r *Reconfigurer) giveWay(p pathMapping, j *journal, data []byte) error {
	if s := sum(data, data != nil); s != j.Before && j.Path != "" && mainfile.ConfigPath(data) == j.Path {
		if err := r.save(editName, edit{Path: j.Path, After: j.After, Absent: j.Before == absent}); err != nil {
			return err
		}
	}
	return r.close(p, j)
}

// undo ends a change that failed.
func (r *Reconfigurer) undo(ctx context.Context, p pathMapping, j *journal, reason string) (Status, error) {
	if ctx.Err() != nil {
		return Status{}, fmt.Errorf("stopped while containerd was reconfigured; the next start goes on: %w", ctx.Err())
	}
	r.o.Log.Error("the change of containerd's main file failed; it goes back", "id", j.ID, "file", p.shown, "reason", reason)
	j.Step, j.Reason = stepUndo, reason
	// To put the file back needs no space, so a full disk must not stop it.
	if err := r.save(journalName, j); err != nil {
		r.o.Log.Error("the journal cannot be written; the file goes back all the same", "err", err)
	}
	r.report(ctx, p, j)
	return r.rollBack(ctx, p, j)
}

// rollBack puts the old file back, and restarts containerd if it may have read the
// new one.
func (r *Reconfigurer) rollBack(ctx context.Context, p pathMapping, j *journal) (Status, error) {
	// This must be completed: without containerd there is no next agent.
	ctx = context.WithoutCancel(ctx)
	message, restart := j.Reason, r.restart
	if j.Step == stepUndo {
		if err := r.putBack(p, j); err != nil {
			return Status{}, fmt.Errorf("%s; and %s could not be put back from %s beside it, put it back by hand: %w",
				j.Reason, p.shown, p.file+suffixPrevious, err)
		}
		if err := r.advance(ctx, j, stepUndoRestart); err != nil {
			r.o.Log.Error("the journal cannot be written; containerd is restarted all the same", "err", err)
		}
		if j.From == noInstance {
			// It may just be starting with the file that was replaced.
			restart = r.forceRestart
		}
	}
	if now, err := r.instance(ctx); err == nil && now == j.Instance {
		// The same process as before the change never read the new file.
		return r.fail(ctx, p, j, fmt.Sprintf("%s; containerd was not restarted, and %s is what it was before", message, p.shown))
	}
	err := restart(ctx, j.From)
	if err == nil {
		err = r.check(ctx, p, j, false)
	}
	if err == nil || errors.Is(err, errLost) {
		return r.fail(ctx, p, j, fmt.Sprintf("%s; %s is what it was before, and containerd runs with it", message, p.shown))
	}
	return r.fail(ctx, p, j, fmt.Sprintf("THIS NODE NEEDS A HUMAN NOW: %s; %s is what it was before, but containerd did not come back "+
		"even with that: %v. Look at `journalctl -u containerd`", message, p.shown, err))
}

// putBack makes the main file what it was. If another program wrote it after us,
// only our edit is taken out.
func (r *Reconfigurer) putBack(p pathMapping, j *journal) error {
	now, err := r.sumOf(p)
	switch {
	case err != nil:
		return err
	case now == j.Before:
		return r.fs.SyncDir(p.dir())
	case now != j.After:
		return r.removeEdit(p, j)
	case j.Before == absent:
		return r.remove(p.file)
	}
	if err := r.fs.Rename(p.file+suffixPrevious, p.file); err != nil {
		return err
	}
	return r.fs.SyncDir(p.dir())
}

// removeEdit takes our edit out of a file that another program wrote.
func (r *Reconfigurer) removeEdit(p pathMapping, j *journal) error {
	if j.Legacy || j.Path == "" {
		return nil // this change put nothing in
	}
	data, there, err := r.read(p)
	if err != nil || !there {
		return err
	}
	old, err := r.backup(p)
	if err != nil {
		return err
	}
	without, err := mainfile.Restore(data, old, j.Path)
	if err != nil || sum(without, true) == sum(data, true) {
		return nil //nolint:nilerr // what cannot be read is not ours to repair
	}
	a, err := durable.AttributesOf(p.file)
	if err != nil {
		return err
	}
	return r.replace(p.file, without, a)
}

// fail ends a change that failed, so that it is not tried again.
func (r *Reconfigurer) fail(ctx context.Context, p pathMapping, j *journal, message string) (Status, error) {
	return r.remember(ctx, p, j, failure{ID: j.ID, Key: j.Key, Message: message})
}

// remember ends a change with the reason for which it is not tried again.
func (r *Reconfigurer) remember(ctx context.Context, p pathMapping, j *journal, f failure) (Status, error) {
	_, err := r.instance(ctx)
	f.Dead = err != nil
	r.o.Log.Error("the change of containerd's main file failed", "id", j.ID, "file", p.shown, "reason", f.Message)
	s := Status{ID: j.ID, Phase: Failed, Message: f.Message}
	if err := r.save(failureName, f); err != nil {
		return s, err
	}
	return s, r.close(p, j)
}

// errLost is the one failure that another restart does not repair.
var errLost = errors.New("did not survive containerd's restart")
