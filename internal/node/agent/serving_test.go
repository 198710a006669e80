package agent

import (
	"log/slog"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/upstream"
)

func servingAt(now *time.Time) (*serving, *report.Reporter) {
	reporter := report.New(report.Options{Node: "n", Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return *now }})
	return &serving{log: slog.New(slog.DiscardHandler)}, reporter
}

// TestSilentServe: a restart is waited for, a dead half is reported and takes
// the report back.
func TestSilentServe(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a, reporter := servingAt(&now)
	reporter.Begin().Prove(report.LastProved{Generation: 5})
	v := reporter.Begin()
	if a.look(v); !v.Hold || !v.Retry || reporter.Begin().Proved().Generation != 5 {
		t.Errorf("at once: %+v, %+v", v, reporter.Begin().Proved())
	}
	now = now.Add(10 * time.Second)
	v = reporter.Begin()
	if a.look(v); v.Hold || len(v.Problems()) != 1 || reporter.Begin().Proved().Generation != 0 {
		t.Errorf("after a while: %+v, %+v", v, reporter.Begin().Proved())
	}
}

// TestServeLostItsDisk: nobody may rely on a generation that is not served.
func TestServeLostItsDisk(t *testing.T) {
	t.Parallel()
	folder, err := handoff.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for generation, want := range map[int64]int64{0: 0, 4: 0, 5: 5, 6: 5} {
		now := time.Now()
		a, reporter := servingAt(&now)
		a.state = folder
		reporter.Begin().Prove(report.LastProved{Generation: 5})
		a.latest.Store(&served{status: handoff.Status{Generation: generation}})
		a.look(reporter.Begin())
		if reporter.Begin().Proved().Generation != want {
			t.Errorf("serving %d: %d stands, want %d", generation, reporter.Begin().Proved().Generation, want)
		}
	}
}

// TestAheadIsReported: what the node serves and cannot prove is told, or the controller
// would publish layouts that the node ignores.
func TestAheadIsReported(t *testing.T) {
	t.Parallel()
	folder, err := handoff.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for ahead, want := range map[bool]int64{true: 9, false: 0} {
		now := time.Now()
		a, reporter := servingAt(&now)
		a.state = folder
		a.latest.Store(&served{status: handoff.Status{Generation: 9, Ahead: ahead}})
		v := reporter.Begin()
		if a.look(v); v.Status.Ahead != want {
			t.Errorf("ahead %t: %d is reported, want %d", ahead, v.Status.Ahead, want)
		}
	}
}

// TestDiskAndServeDiffer: for a moment that is a new layout, later it is told.
func TestDiskAndServeDiffer(t *testing.T) {
	t.Parallel()
	folder, err := handoff.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	target := upstream.Upstream{Host: "a.example.com", Scheme: upstream.HTTPS}
	data, err := layout.Encode(layout.Layout{
		Schema: layout.Schema, Generation: 6, Mode: "Direct", Active: target, Target: target,
		Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{target}),
	})
	if err == nil {
		err = folder.SaveLayout(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a, reporter := servingAt(&now)
	a.state = folder
	a.latest.Store(&served{status: handoff.Status{Generation: 5}})
	v := reporter.Begin()
	if a.look(v); !v.Hold || len(v.Problems()) > 0 {
		t.Errorf("at once: %+v", v)
	}
	now = now.Add(10 * time.Second)
	v = reporter.Begin()
	if a.look(v); v.Hold || len(v.Problems()) != 1 {
		t.Errorf("for long: %+v", v)
	}
}
