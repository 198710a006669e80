package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"

	"github.com/d8-registry/registry/test/harness/parts"
)

// Server is the API server of one test package. The zero value is ready; it
// starts with the first call of Start, so that a run of tests that need no
// API costs nothing.
type Server struct {
	mu      sync.Mutex
	started bool
	stopped bool
	dir     string
	plane   *ControlPlane
	api     *API
	err     error
}

// Main runs the tests of a package, stops what they started and returns the
// exit code. SIGINT and SIGTERM stop it as well.
//
//	var server apiserver.Server
//
//	func TestMain(m *testing.M) { os.Exit(server.Main(m)) }
func (s *Server) Main(m *testing.M) int { return run(m, s.stop) }

// run runs tests and calls stop at their end, also where a signal ends them.
func run(m *testing.M, stop func()) int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	finished := make(chan struct{})
	go func() {
		select {
		case <-finished:
		case got := <-signals:
			stop()
			fmt.Fprintf(os.Stderr, "apiserver: %v, stopped\n", got)
			// The tests are still running, and nothing else ends them.
			os.Exit(130)
		}
	}()
	code := m.Run()
	close(finished)
	stop()
	return code
}

// Start returns the running API server, starting it first if need be. A test
// whose server cannot start fails; only a short run skips it.
func (s *Server) Start(tb testing.TB) *API {
	tb.Helper()
	parts.Need(tb)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.started = true
		// Shared by tests, so the first test's end must not stop it.
		s.err = s.start(context.WithoutCancel(tb.Context()))
	}
	if s.err != nil {
		tb.Fatalf("start API server: %v", s.err)
	}
	return s.api
}

func (s *Server) start(ctx context.Context) (err error) {
	if s.stopped {
		return errors.New("already stopped")
	}
	if s.dir, err = makeDir(); err != nil {
		return err
	}
	if s.plane, err = Launch(ctx, s.dir); err != nil {
		return err
	}
	if s.api, err = newAPI(s.plane.Config()); err != nil {
		return err
	}
	s.api.etcd = s.plane.etcdURL()
	return s.api.install(ctx)
}

func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.plane != nil {
		s.plane.Stop()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // the next run sweeps what is left
	}
}
