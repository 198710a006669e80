package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/configchange"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/node/watchdog"
)

func TestAPassThatHangsIsNoticed(t *testing.T) {
	t.Parallel()
	dir, log, now := t.TempDir(), slog.New(slog.DiscardHandler), time.Now()
	silent, err := containerd.Dial(filepath.Join(dir, "none"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	state, err := handoff.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{
		report:     report.New(report.Options{Log: log}),
		containerd: newInspector(Config{}, silent, log, func() {}),
		serving:    &serving{state: state, log: log},
		scripts:    &scripts{},
		cleanup:    &cleanup{state: &handoff.Hold{StateDir: state}},
		change: configchange.New(configchange.Options{
			Log: log, StateDir: dir, HostRoot: dir, WriteRestart: func(context.Context, registryv1alpha1.RestartStatus) {},
		}),
		watchdog: watchdog.New(func() time.Time { return now }),
	}
	var during error
	a.containerd.now = func() time.Time {
		now = now.Add(watchdog.Limit + time.Second)
		during = a.watchdog.Err()
		return time.Now()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	a.pass(ctx)
	if during == nil || !strings.Contains(during.Error(), "a pass has hung") {
		t.Errorf("while it hangs: %v", during)
	}
	if err := a.watchdog.Err(); err != nil {
		t.Errorf("after it: %v", err)
	}
}
