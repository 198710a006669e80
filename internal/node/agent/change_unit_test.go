package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

// wished is a changer that only notes what is wanted.
type wished struct {
	wants  []reconfigure.Want
	answer reconfigure.Status
	err    error
}

func (w *wished) Pass(_ context.Context, want reconfigure.Want, _ string) (reconfigure.Status, error) {
	w.wants = append(w.wants, want)
	return w.answer, w.err
}

func (*wished) Edited(reconfigure.Want) (bool, error) { return false, nil }

func changing(t *testing.T, w *wished) *Agent {
	t.Helper()
	folder, err := handoff.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Agent{cfg: Config{HostRoot: "/host", BootID: "boot"}, log: slog.New(slog.DiscardHandler), folder: folder, changer: w}
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
		task     task
		override string
		path     string
		unread   bool
		legacy   bool
	}{
		"it looks nowhere":             {task: task{facts: &nowhere, prove: prove}, path: dir},
		"it looks somewhere":           {task: task{facts: &somewhere, prove: prove}},
		"it did not read it":           {task: task{facts: &unread, lost: true, prove: prove}, path: dir, unread: true},
		"it works without reading it":  {task: task{facts: &unread, prove: prove}},
		"it goes elsewhere, who knows": {task: task{facts: &somewhere, lost: true, prove: prove}},
		"nothing to prove it with":     {task: task{facts: &nowhere}},
		"k3s writes the file":          {task: task{facts: with(nowhere, func(f *containerd.Facts) { f.Generated = true }), prove: prove}},
		"a user's section":             {task: task{facts: with(nowhere, func(f *containerd.Facts) { f.Preflight = containerd.Custom }), prove: prove}},
		"the operator knows better":    {task: task{facts: &nowhere, prove: prove}, override: dir},
		"the way back":                 {task: task{facts: &somewhere, legacy: true}, legacy: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w wished
			a := changing(t, &w)
			a.cfg.HostsDir = row.override
			a.change(t.Context(), &view{}, row.task)
			want := reconfigure.Want{File: "/host/c.toml", Shown: "/c.toml", Major: 1, Path: row.path, Unread: row.unread, Legacy: row.legacy}
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
		answer    wished
		restart   string
		preflight string
		problems  int
		again     bool
	}{
		"nothing":    {},
		"waiting":    {answer: wished{answer: reconfigure.Status{ID: "y", Phase: reconfigure.Waiting, Message: "m"}}, restart: "y", problems: 1},
		"an error":   {answer: wished{err: errors.New("disk")}, restart: "x", problems: 1},
		"a refusal":  {answer: wished{err: &reconfigure.Refusal{Sentence: "no"}}, preflight: "Unsupported", problems: 1},
		"it is done": {answer: wished{answer: reconfigure.Status{Committed: true}}, again: true},
	} {
		v := &view{own: own}
		a := changing(t, &row.answer)
		settled := a.change(t.Context(), v, task{facts: facts})
		if settled != (name == "nothing") {
			t.Errorf("%s: settled %t", name, settled)
		}
		id := ""
		if v.status.Restart != nil {
			id = v.status.Restart.ID
		}
		if id != row.restart || v.status.Preflight != row.preflight || len(v.problems) != row.problems || v.again != row.again || a.forget.Load() != row.again {
			t.Errorf("%s: %+v", name, v)
		}
	}
	another := own.DeepCopy()
	another.Status.BootID = "before"
	v := &view{own: another}
	changing(t, nil).keepRestart(v)
	if v.status.Restart != nil {
		t.Error("the restart of another boot")
	}
}

// TestChangeWhileContainerdIsSilent: what an earlier agent was stopped in is
// finished by what it remembered, but not while containerd may just start.
func TestChangeWhileContainerdIsSilent(t *testing.T) {
	t.Parallel()
	var w wished
	a := changing(t, &w)
	a.finishChange(t.Context(), &view{}, layout.Layout{}, nil)
	if len(w.wants) != 0 {
		t.Error("a main file that nobody knows")
	}
	a.change(t.Context(), &view{}, task{facts: &containerd.Facts{Version: "1.6.20", ConfigFile: "/c.toml", Unit: "containerd.service"}})
	later := changing(t, &w)
	later.folder = a.folder
	if err := later.folder.Memory(&later.memory); err != nil {
		t.Fatal(err)
	}
	w.wants = nil
	later.finishChange(t.Context(), &view{hold: true}, layout.Layout{}, nil)
	if len(w.wants) != 0 {
		t.Error("it may just be starting")
	}
	later.finishChange(t.Context(), &view{}, layout.Layout{}, nil)
	waits := &registryv1alpha1.RegistryNode{Status: registryv1alpha1.RegistryNodeStatus{
		BootID: "boot", Restart: &registryv1alpha1.RestartStatus{ID: "1", Phase: "Waiting"},
	}}
	v := &view{own: waits}
	if later.finishChange(t.Context(), v, layout.Layout{}, nil); v.status.Restart == nil || v.status.Restart.ID != "1" {
		t.Error("a node that waits lost its place because the other half is away")
	}
	if later.proving != nil {
		t.Error("something to prove it with, without a serving half")
	}
	if want := (reconfigure.Want{File: "/host/c.toml", Shown: "/c.toml", Major: 1}); len(w.wants) != 2 || w.wants[0] != want || later.memory.Main.Unit != "containerd.service" {
		t.Errorf("%+v, %+v", w.wants, later.memory)
	}
	later.finishChange(t.Context(), &view{}, layout.Layout{Generation: 1}, &served{})
	if later.proving == nil {
		t.Error("a containerd that is slow to come up cannot be proved any more")
	}
}
