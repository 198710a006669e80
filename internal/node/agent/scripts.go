package agent

import (
	"context"
	"log/slog"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"

	"github.com/d8-registry/registry/internal/node/nodescript"
	"github.com/d8-registry/registry/internal/node/report"
)

// scripts runs NodeGroupConfigurations beside the passes, whatever those find: a
// script may repair the node that no pass succeeds on. Passes go on without them
// too.
type scripts struct {
	runner *nodescript.Runner // nil when they are switched off
	log    *slog.Logger
	wake   func()

	stop   context.CancelFunc
	ended  chan struct{} // closed when none runs and none will
	failed atomic.Pointer[error]
}

func newScripts(cfg Config, kube dynamic.Interface, host nodescript.Host, log *slog.Logger, wake func()) (*scripts, error) {
	s := &scripts{log: log, wake: wake, ended: make(chan struct{})}
	if !cfg.Scripts {
		return s, nil
	}
	runner, err := nodescript.New(nodescript.Config{
		Client: kube, NodeName: cfg.NodeName, BootID: cfg.BootID, Host: host,
		StateDir: cfg.ScriptsDir, Changed: wake,
	}, log)
	if err != nil {
		return nil, err
	}
	s.runner = runner
	return s, nil
}

// start runs scripts until the context ends or end is called.
func (s *scripts) start(ctx context.Context, group *errgroup.Group) {
	ctx, s.stop = context.WithCancel(ctx)
	group.Go(func() error {
		defer close(s.ended)
		defer s.stop()
		s.run(ctx)
		return nil
	})
}

func (s *scripts) run(ctx context.Context) {
	if s.runner == nil {
		return
	}
	if err := s.runner.Run(ctx); err != nil {
		s.log.Error("NodeGroupConfigurations are not run on this node", "err", err)
		s.failed.Store(&err)
		s.wake()
	}
}

// end returns when no script runs, and none will.
func (s *scripts) end(ctx context.Context) {
	s.stop()
	select {
	case <-s.ended:
	case <-ctx.Done():
	}
}

// report tells the runner about the node, and reports what the scripts did.
func (s *scripts) report(r *report.Report) {
	if s.runner == nil || r.Own == nil {
		return
	}
	s.runner.Learn(nodescript.Node{Group: r.Own.Spec.NodeGroup, UID: report.NodeUID(r.Own)})
	status, known := s.runner.Status()
	if !known {
		status = r.Own.Status.Scripts
	}
	r.Status.Scripts = status
	r.Warn(s.runner.Warnings()...)
	if err := s.failed.Load(); err != nil {
		r.Warn("NodeGroupConfigurations are not run: " + report.Brief(*err))
	}
}
