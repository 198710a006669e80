package configchange

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/reconfigure"
	"github.com/d8-registry/registry/internal/node/report"
)

// MainFile is what it takes to put containerd's main file back without asking
// containerd. It survives a restart of the agent; the JSON keys are those of the
// state folder.
type MainFile struct {
	Path  string `json:"path"` // as containerd sees it
	Unit  string `json:"unit,omitempty"`
	Major int    `json:"major"`
}

// Prove returns nil when containerd was seen doing what a change is for: that it
// looks into the directory.
type Prove func(ctx context.Context, path string) error

// Options are a Changer's parts.
type Options struct {
	Log      *slog.Logger
	StateDir string // the journal of a change is there
	HostRoot string // the host's file system, as this program reaches it
	// Override says that the operator named the host directory: then the main file
	// is theirs.
	Override bool
	Runtime  reconfigure.Runtime
	// Service is what restarts a unit.
	Service func(unit string) reconfigure.Service
	Limits  reconfigure.Limits
	// WriteRestart reports at once that containerd is about to be restarted.
	WriteRestart func(ctx context.Context, s registryv1alpha1.RestartStatus)
	// Restarted is called when containerd was restarted.
	Restarted func()
	// Main is what Save saved last.
	Main MainFile
	Save func(MainFile)
}

// Changer changes containerd's main file and restarts containerd. It is used by
// one goroutine.
type Changer struct {
	o     Options
	file  file
	main  MainFile
	prove Prove // of the pass under way; nil if nothing can be proved
}

// file is the main file; a reconfigure.Reconfigurer.
type file interface {
	Pass(ctx context.Context, w reconfigure.Want, approved string) (reconfigure.Status, error)
	Edited(w reconfigure.Want) (bool, error)
}

// New makes a Changer.
func New(o Options) *Changer {
	c := &Changer{o: o, main: o.Main}
	c.file = reconfigure.New(reconfigure.Options{
		Log: o.Log, State: o.StateDir, Runtime: o.Runtime, Service: unit{c},
		Prove: c.proveChange, Report: c.reportRunning, Limits: o.Limits,
	})
	return c
}

// Task is what a pass asks of containerd's main file.
type Task struct {
	Facts *containerd.Facts
	Lost  bool // containerd was seen going elsewhere, although all is set up
	// Prove is nil while nothing could be proved: then no change begins.
	Prove Prove
	// Revert takes our edit back.
	Revert bool
}

// Converge edits the main file and restarts containerd, if that is needed, was
// approved and can be undone. It is called in every pass: an earlier agent may
// have been stopped in the middle. It reports whether nothing is left to do.
func (c *Changer) Converge(ctx context.Context, r *report.Report, t Task) bool {
	c.remember(MainFile{Path: t.Facts.ConfigFile, Unit: t.Facts.Unit, Major: t.Facts.Major()})
	w := c.want()
	w.Instead = t.Facts.Distribution.Set(cmp.Or(t.Facts.NeedsPath, t.Facts.Effective))
	switch f := t.Facts; {
	case t.Revert:
		w.Legacy = true
	case t.Prove == nil || f.Preflight != containerd.Ready || f.Distribution.Generated() || c.o.Override:
		// Nothing is wanted of a file that we may not edit, or cannot.
	case f.NeedsPath != "":
		w.Path = f.NeedsPath
	case t.Lost && f.ChangedSince != "":
		w.Path, w.Unread = f.Effective, true
	}
	return c.pass(ctx, r, w, t.Prove)
}

// Resume finishes a change that an earlier agent was stopped in, while containerd
// or the serving half does not answer: the change itself may be the reason.
// serving says that the serving half answers.
func (c *Changer) Resume(ctx context.Context, r *report.Report, prove Prove, serving bool) {
	if c.main.Path == "" || r.Hold {
		r.KeepRestart()
		return
	}
	c.pass(ctx, r, c.want(), prove)
	if !serving && r.Status.Restart == nil && !r.Again {
		r.KeepRestart() // a change that waits for approval still waits
	}
}

// Edited reports whether our edit is in the main file.
func (c *Changer) Edited() (bool, error) { return c.file.Edited(c.want()) }

// want names the main file and asks for no change.
func (c *Changer) want() reconfigure.Want {
	return reconfigure.Want{File: filepath.Join(c.o.HostRoot, c.main.Path), Shown: c.main.Path, Major: c.main.Major}
}

func (c *Changer) remember(m MainFile) {
	if m != c.main {
		c.main = m
		c.o.Save(m)
	}
}

func (c *Changer) pass(ctx context.Context, r *report.Report, w reconfigure.Want, prove Prove) bool {
	approved := ""
	if r.Own != nil {
		approved = r.Own.Spec.ApprovedRestart
	}
	c.prove = prove
	s, err := c.file.Pass(ctx, w, approved)
	var refusal *reconfigure.Refusal
	switch {
	case errors.As(err, &refusal):
		r.Status.Preflight = string(containerd.Unsupported)
		r.Problemf("%s", refusal.Sentence)
	case err != nil:
		r.KeepRestart()
		r.Problemf("%s", report.Brief(err))
	}
	if s.Phase != reconfigure.None {
		restart := restartStatus(s)
		r.Status.Restart = &restart
		r.Problemf("%s", s.Message)
	}
	if s.Committed {
		c.o.Restarted()
		r.Again = true
	}
	return err == nil && s.Phase == reconfigure.None && !s.Committed
}

func (c *Changer) reportRunning(ctx context.Context, s reconfigure.Status) {
	c.o.WriteRestart(ctx, restartStatus(s))
}

func restartStatus(s reconfigure.Status) registryv1alpha1.RestartStatus {
	return registryv1alpha1.RestartStatus{ID: s.ID, Phase: string(s.Phase), Message: s.Message}
}

// proveChange proves the change that is under way. When the file goes back there
// is nothing to prove.
func (c *Changer) proveChange(ctx context.Context, path string) error {
	switch {
	case path == "":
		return nil
	case c.prove == nil:
		return errors.New("the serving half of the agent has nothing to prove it with")
	}
	return c.prove(ctx, path)
}

// unit is containerd's service on the host. Its name is known only when
// containerd was seen.
type unit struct{ c *Changer }

// Check implements reconfigure.Service.
func (u unit) Check(ctx context.Context) error { return u.c.o.Service(u.c.main.Unit).Check(ctx) }

// Restart implements reconfigure.Service.
func (u unit) Restart(ctx context.Context) error { return u.c.o.Service(u.c.main.Unit).Restart(ctx) }
