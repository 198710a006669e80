package configchange

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/distribution"
	"github.com/d8-registry/registry/internal/node/reconfigure"
	"github.com/d8-registry/registry/internal/node/report"
)

// recorded is a changer that only notes what is wanted.
type recorded struct {
	wants  []reconfigure.Want
	answer reconfigure.Status
	err    error
}

func (w *recorded) Pass(_ context.Context, want reconfigure.Want, _ string) (reconfigure.Status, error) {
	w.wants = append(w.wants, want)
	return w.answer, w.err
}

func (*recorded) Edited(reconfigure.Want) (bool, error) { return false, nil }

func changing(t *testing.T, w *recorded) *Changer {
	t.Helper()
	return &Changer{
		o:    Options{Log: slog.New(slog.DiscardHandler), HostRoot: "/host", Save: func(MainFile) {}, Restarted: func() {}},
		file: w,
	}
}

// reporting is a report of a pass on a node of this boot.
func reporting(t *testing.T, own *registryv1alpha1.RegistryNode) *report.Report {
	t.Helper()
	r := report.New(report.Options{Identity: report.Identity{BootID: "boot"}}).Begin()
	r.Own = own
	return r
}

// TestWhatIsWanted: the main file is edited only where nothing else helps.
func TestWhatIsWanted(t *testing.T) {
	t.Parallel()
	prove := func(context.Context, string) error { return nil }
	const dir = "/etc/containerd/registry.d"
	nowhere := containerd.Facts{Version: "v1.7.35", ConfigFile: "/c.toml", Preflight: containerd.Ready, NeedsPath: dir}
	somewhere := containerd.Facts{Version: "v1.7.35", ConfigFile: "/c.toml", Preflight: containerd.Ready, Effective: dir}
	unread := somewhere
	unread.ChangedSince = "/c.toml"
	with := func(f containerd.Facts, change func(*containerd.Facts)) *containerd.Facts { change(&f); return &f }
	for name, row := range map[string]struct {
		task     Task
		override string
		path     string
		unread   bool
		legacy   bool
		instead  string
	}{
		"it looks nowhere":             {task: Task{Facts: &nowhere, Prove: prove}, path: dir},
		"it looks somewhere":           {task: Task{Facts: &somewhere, Prove: prove}},
		"it did not read it":           {task: Task{Facts: &unread, Lost: true, Prove: prove}, path: dir, unread: true},
		"it works without reading it":  {task: Task{Facts: &unread, Prove: prove}},
		"it goes elsewhere, who knows": {task: Task{Facts: &somewhere, Lost: true, Prove: prove}},
		"nothing to prove it with":     {task: Task{Facts: &nowhere}},
		"k3s writes the file":          {task: Task{Facts: with(nowhere, func(f *containerd.Facts) { f.Distribution.Writes = distribution.AtStart }), Prove: prove}},
		"nodeadm writes the file": {task: Task{Facts: with(nowhere, func(f *containerd.Facts) {
			f.Distribution = distribution.Distribution{Writes: distribution.AtBoot, Place: "there", Then: "go"}
		}), Prove: prove}, path: dir, instead: `set config_path = "` + dir + `" there, and go`},
		"a user's section":          {task: Task{Facts: with(nowhere, func(f *containerd.Facts) { f.Preflight = containerd.Custom }), Prove: prove}},
		"the operator knows better": {task: Task{Facts: &nowhere, Prove: prove}, override: dir},
		"the way back":              {task: Task{Facts: &somewhere, Revert: true}, legacy: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w recorded
			a := changing(t, &w)
			a.o.Override = row.override != ""
			a.Converge(t.Context(), reporting(t, nil), row.task)
			want := reconfigure.Want{File: "/host/c.toml", Shown: "/c.toml", Major: 1, Path: row.path, Unread: row.unread, Legacy: row.legacy, Instead: row.instead}
			if len(w.wants) != 1 || w.wants[0] != want {
				t.Errorf("%+v, want %+v", w.wants, want)
			}
		})
	}
}

// TestWhatIsSaidOfAChange: what cannot be looked after is still reported, so
// that its approval stays.
func TestWhatIsSaidOfAChange(t *testing.T) {
	t.Parallel()
	old := &registryv1alpha1.RestartStatus{ID: "x", Phase: registryv1alpha1.RestartRunning}
	own := &registryv1alpha1.RegistryNode{Status: registryv1alpha1.RegistryNodeStatus{BootID: "boot", Restart: old}}
	facts := &containerd.Facts{Preflight: containerd.Ready}
	for name, row := range map[string]struct {
		answer    recorded
		restart   string
		preflight string
		problems  int
		again     bool
	}{
		"nothing":    {},
		"waiting":    {answer: recorded{answer: reconfigure.Status{ID: "y", Phase: reconfigure.Waiting, Message: "m"}}, restart: "y", problems: 1},
		"an error":   {answer: recorded{err: errors.New("disk")}, restart: "x", problems: 1},
		"a refusal":  {answer: recorded{err: &reconfigure.Refusal{Sentence: "no"}}, preflight: "Unsupported", problems: 1},
		"it is done": {answer: recorded{answer: reconfigure.Status{Committed: true}}, again: true},
	} {
		v := reporting(t, own)
		a := changing(t, &row.answer)
		forgotten := false
		a.o.Restarted = func() { forgotten = true }
		settled := a.Converge(t.Context(), v, Task{Facts: facts})
		if settled != (name == "nothing") {
			t.Errorf("%s: settled %t", name, settled)
		}
		id := ""
		if v.Status.Restart != nil {
			id = v.Status.Restart.ID
		}
		if id != row.restart || v.Status.Preflight != row.preflight || len(v.Problems()) != row.problems || v.Again != row.again || forgotten != row.again {
			t.Errorf("%s: %+v", name, v)
		}
	}
	another := own.DeepCopy()
	another.Status.BootID = "before"
	v := reporting(t, another)
	changing(t, nil).Resume(t.Context(), v, nil, false)
	if v.Status.Restart != nil {
		t.Error("the restart of another boot")
	}
}

// TestChangeWhileContainerdIsSilent: what an earlier agent was stopped in is
// finished by what it remembered, but not while containerd may just start.
func TestChangeWhileContainerdIsSilent(t *testing.T) {
	t.Parallel()
	var w recorded
	a := changing(t, &w)
	var saved MainFile
	a.o.Save = func(m MainFile) { saved = m }
	a.Resume(t.Context(), reporting(t, nil), nil, false)
	if len(w.wants) != 0 {
		t.Error("a main file that nobody knows")
	}
	a.Converge(t.Context(), reporting(t, nil), Task{Facts: &containerd.Facts{Version: "1.6.20", ConfigFile: "/c.toml", Unit: "containerd.service"}})
	later := changing(t, &w)
	later.main = saved
	w.wants = nil
	starting := reporting(t, nil)
	starting.Hold = true
	later.Resume(t.Context(), starting, nil, false)
	if len(w.wants) != 0 {
		t.Error("it may just be starting")
	}
	later.Resume(t.Context(), reporting(t, nil), nil, false)
	waits := &registryv1alpha1.RegistryNode{Status: registryv1alpha1.RegistryNodeStatus{
		BootID: "boot", Restart: &registryv1alpha1.RestartStatus{ID: "1", Phase: "Waiting"},
	}}
	v := reporting(t, waits)
	if later.Resume(t.Context(), v, nil, false); v.Status.Restart == nil || v.Status.Restart.ID != "1" {
		t.Error("a node that waits lost its place because the other half is away")
	}
	if later.proveChange(t.Context(), "/dir") == nil {
		t.Error("something to prove it with, without a serving half")
	}
	if want := (reconfigure.Want{File: "/host/c.toml", Shown: "/c.toml", Major: 1}); len(w.wants) != 2 || w.wants[0] != want || later.main.Unit != "containerd.service" {
		t.Errorf("%+v, %+v", w.wants, later.main)
	}
	later.Resume(t.Context(), reporting(t, nil), func(context.Context, string) error { return nil }, true)
	if err := later.proveChange(t.Context(), "/dir"); err != nil {
		t.Error("a containerd that is slow to come up cannot be proved any more", err)
	}
}
