package reconfigure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
)

// errForeign says that another program wrote the main file after the plan was
// made. Its file stays, and the change gets a new plan and a new ID.
var errForeign = errors.New("another program changed containerd's main file meanwhile; nothing was written over it")

// run carries a change out. Before anything is touched the journal says what
// is under way.
func (r *Reconfigurer) run(ctx context.Context, p pathMapping, c *change) (Status, error) {
	j := &journal{
		ID: c.id, Key: c.key, Shown: p.shown, Step: stepWrite, Path: c.path, Legacy: c.legacy,
		Before: sum(c.before, c.exists), After: sum(c.after, c.existsAfter),
		Meaning: c.meaning, Instead: c.instead,
	}
	var err error
	if j.Instance, err = r.instance(ctx); err != nil {
		return Status{}, fmt.Errorf("containerd does not answer, so its main file is left alone: %w", err)
	}
	if err := r.ask(ctx, r.o.Runtime.Answers); err != nil {
		return Status{}, fmt.Errorf("CRI does not answer, so containerd's main file is left alone: %w", err)
	}
	if j.Containers, err = within(ctx, r.o.Limits.Ask, r.o.Runtime.Containers); err != nil {
		return Status{}, fmt.Errorf("list containers: %w", err)
	}
	// Approvals may be old, and containerd upgraded since.
	r.checked = checkResult{}
	if err := r.identify(ctx, p, c); err != nil {
		return Status{}, err
	}
	if c.key != j.Key {
		return Status{ID: c.id, Phase: Waiting, Message: c.proposal(p)}, nil
	}
	if err := r.save(journalName, j); err != nil {
		return Status{}, err
	}
	r.report(ctx, p, j)
	if !c.same() {
		if err := r.write(p, c, j); err != nil {
			return r.abandon(ctx, p, j, err)
		}
	}
	if err := r.advance(ctx, j, stepRestart); err != nil {
		return r.undo(ctx, p, j, err.Error())
	}
	return r.restartAndCheck(ctx, p, j)
}

func (r *Reconfigurer) report(ctx context.Context, p pathMapping, j *journal) {
	s := j.running(p)
	r.o.Log.Info("containerd is reconfigured", "id", j.ID, "file", p.shown, "step", string(j.Step))
	if r.o.Report != nil {
		// An API server that does not answer must not keep the file from going back.
		ctx, cancel := context.WithTimeout(ctx, r.o.Limits.Ask)
		defer cancel()
		r.o.Report(ctx, s)
	}
}

func (j *journal) running(p pathMapping) Status {
	s := Status{ID: j.ID, Phase: Running, Message: fmt.Sprintf("config_path in %s becomes %q and containerd restarts", p.shown, j.Path)}
	switch {
	case j.Step == stepUndo || j.Step == stepUndoRestart:
		s.Message = fmt.Sprintf("%s; %s goes back to what it was", j.Reason, p.shown)
	case j.Legacy:
		s.Message = fmt.Sprintf("config_path goes out of %s and containerd restarts", p.shown)
	}
	return s
}

// write puts the new file in the place of the old one.
func (r *Reconfigurer) write(p pathMapping, c *change, j *journal) error {
	if err := r.backUp(p, c); err != nil {
		return errors.New("the backup was not made: " + explainWriteError(p.shown, err))
	}
	// This is checked last, so that another program that wrote since the plan wins.
	var foreign error
	unchanged := func() error {
		now, err := r.sumOf(p)
		if err == nil && now != j.Before {
			err = errForeign
		}
		foreign = err
		return err
	}
	err := r.writeMain(p, c, unchanged)
	if foreign != nil || err == nil {
		return foreign
	}
	return errors.New(explainWriteError(p.shown, err))
}

// writeMain replaces the main file, or removes it, if unchanged agrees.
func (r *Reconfigurer) writeMain(p pathMapping, c *change, unchanged func() error) error {
	if !c.existsAfter {
		if err := unchanged(); err != nil {
			return err
		}
		if err := r.fs.Remove(p.file); err != nil {
			return err
		}
		return r.fs.SyncDir(p.dir())
	}
	f := durable.File{Name: p.file, Temp: p.file + suffixNew, Data: c.after, Confirm: unchanged}
	if c.exists {
		var err error
		if f.Attributes, err = durable.AttributesOf(p.file); err != nil {
			return err
		}
	}
	return durable.Replace(r.fs, f)
}

// abandon ends a change that could not be written. containerd was not restarted.
func (r *Reconfigurer) abandon(ctx context.Context, p pathMapping, j *journal, cause error) (Status, error) {
	if errors.Is(cause, errForeign) {
		r.o.Log.Warn("containerd is not reconfigured", "id", j.ID, "file", p.shown, "err", cause)
		return Status{}, errors.Join(cause, r.close(p, j))
	}
	return r.undo(ctx, p, j, cause.Error())
}

// advance saves a new step, and which run of containerd there is when it begins.
// If containerd does not answer just now, it is taken for the one before the
// change, or for none while the file is put back.
func (r *Reconfigurer) advance(ctx context.Context, j *journal, s step) error {
	j.Step, j.From = s, noInstance
	if s == stepRestart {
		j.From = j.Instance
	}
	if now, err := r.instance(ctx); err == nil {
		j.From = now
	} else if ctx.Err() != nil {
		return fmt.Errorf("ask containerd who it is: %w", err)
	}
	return r.save(journalName, j)
}

// restartAndCheck restarts containerd with the new file, and commits or undoes the
// change.
func (r *Reconfigurer) restartAndCheck(ctx context.Context, p pathMapping, j *journal) (Status, error) {
	if ctx.Err() != nil {
		return Status{}, fmt.Errorf("stopped before containerd was restarted; the next start goes on: %w", ctx.Err())
	}
	whole := context.WithoutCancel(ctx)
	if now, yes := r.overruled(whole, p, j); yes {
		return r.surrender(whole, p, j, now)
	}
	err := r.restart(whole, j.From)
	if err == nil {
		err = r.check(ctx, p, j, true)
	}
	if err == nil {
		return r.commit(p, j)
	}
	if now, yes := r.overruled(whole, p, j); yes && errors.Is(err, errRewritten) {
		return r.surrender(whole, p, j, now)
	}
	if ctx.Err() != nil {
		// The next agent is a container. If our change keeps containerd from starting,
		// nobody else can undo it.
		if r.wait(whole, r.o.Limits.Answer, r.o.Runtime.Answers) != nil {
			return r.undo(whole, p, j, err.Error())
		}
		return Status{}, fmt.Errorf("stopped while containerd was reconfigured; the next start goes on: %w", err)
	}
	return r.undo(ctx, p, j, err.Error())
}

// restart restarts containerd, unless another run of it is there already.
func (r *Reconfigurer) restart(ctx context.Context, from string) error {
	if now, err := r.instance(ctx); err == nil && now != from {
		return nil
	}
	return r.forceRestart(ctx, from)
}

// forceRestart restarts containerd in any case.
func (r *Reconfigurer) forceRestart(ctx context.Context, from string) error {
	limited, cancel := context.WithTimeout(ctx, r.o.Limits.Restart)
	defer cancel()
	err := r.o.Service.Restart(limited)
	if err == nil {
		return nil
	}
	if now, ierr := r.instance(ctx); ierr == nil && now != from && from != noInstance {
		// It failed, but containerd was restarted all the same.
		r.o.Log.Warn("containerd was restarted, although not as ordered", "err", err)
		return nil
	}
	return fmt.Errorf("restart containerd: %w", err)
}

// check checks containerd after a restart: it is a new run, both services answer,
// and no container was lost. With prove, the change must also have its effect.
func (r *Reconfigurer) check(ctx context.Context, p pathMapping, j *journal, prove bool) error {
	if err := r.wait(ctx, r.o.Limits.Answer, r.o.Runtime.Answers); err != nil {
		return fmt.Errorf("containerd's CRI does not answer after the restart: %w", err)
	}
	now, err := r.instance(ctx)
	if err != nil {
		return fmt.Errorf("containerd does not answer after the restart: %w", err)
	}
	if now == j.From {
		return errors.New("containerd was not restarted: the same process is still there")
	}
	// After a reboot there are other containers.
	if boot(now) == boot(j.Instance) {
		lost, err := within(ctx, r.o.Limits.Ask, func(ctx context.Context) ([]string, error) { return r.o.Runtime.Lost(ctx, j.Containers) })
		if err != nil {
			return fmt.Errorf("look at the containers after the restart: %w", err)
		}
		if tooMany(len(lost), len(j.Containers)) {
			return fmt.Errorf("%d of %d containers %w", len(lost), len(j.Containers), errLost)
		}
	}
	if !prove {
		return nil
	}
	if err := r.rewritten(p, j); err != nil {
		return err
	}
	if err := r.wait(ctx, r.o.Limits.Prove, func(ctx context.Context) error { return r.o.Prove(ctx, j.Path) }); err != nil {
		if r.rewritten(p, j) != nil {
			return errRewritten
		}
		return fmt.Errorf("containerd runs with the change but does not follow it: %w", err)
	}
	// A containerd that crashes and is started again and again answers in between.
	if then, err := r.instance(ctx); err != nil || then != now {
		return errors.New("containerd came up and did not stay")
	}
	return nil
}

// tooMany reports whether the restart killed the containers. It kills all or most
// of them. One or two may have been killed in these seconds for another reason,
// and containerd does not say which.
func tooMany(lost, before int) bool {
	return lost > 0 && (lost == before || lost > max(1, before/5))
}

// commit ends a change that succeeded.
func (r *Reconfigurer) commit(p pathMapping, j *journal) (Status, error) {
	var err error
	switch {
	case j.Legacy:
		err = r.forget(editName)
	case j.Before != j.After:
		e := edit{Path: j.Path, After: j.After, Absent: j.Before == absent, Meaning: j.Meaning, Boot: boot(j.Instance)}
		var old edit
		if found, lerr := r.load(editName, &old); lerr == nil && found {
			// If the file itself is ours, this is our second edit.
			e.Absent = e.Absent || old.Absent && old.After == j.Before
			e = e.madeAgain(old)
		}
		err = r.save(editName, e)
	}
	if err = errors.Join(err, r.forget(failureName)); err != nil {
		return Status{}, err
	}
	r.o.Log.Info("containerd is reconfigured", "id", j.ID, "file", p.shown, "step", "done")
	return Status{Committed: true}, r.close(p, j)
}

// close removes all files of a change. The journal is last, because the others
// are found by it. A backup goes too if no edit of ours is left: it would be taken
// for the original of a later edit.
func (r *Reconfigurer) close(p pathMapping, j *journal) error {
	err := r.removeLeftovers(p)
	found, lerr := r.load(editName, &edit{})
	if err = errors.Join(err, lerr); err == nil && !found && j.Before != j.After {
		err = r.remove(p.file + suffixBackup)
	}
	if err != nil {
		return fmt.Errorf("tidy up beside %s: %w", p.shown, err)
	}
	return r.forget(journalName)
}

func (r *Reconfigurer) ask(ctx context.Context, question func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.o.Limits.Ask)
	defer cancel()
	return question(ctx)
}

// wait asks until the answer is nil or the time is over. containerd does not say
// when it is ready, so that only asking helps.
func (r *Reconfigurer) wait(ctx context.Context, limit time.Duration, question func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	retry := time.NewTicker(r.o.Limits.Retry)
	defer retry.Stop()
	for last := error(nil); ; {
		err := r.ask(ctx, question)
		if err == nil {
			return nil
		}
		// A question that the time limit cut off explains nothing.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-retry.C:
		}
	}
}
