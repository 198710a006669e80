package installation

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/foreign"
)

// Background runs something until the test ends or stop is called, and waits for its end
// then.
func Background(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("in the background: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// Pause waits, where there is no event to wait for.
func Pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// Log is what programs in a test write to: nothing, unless REGISTRY_TEST_LOG is set.
func Log() *slog.Logger {
	if os.Getenv("REGISTRY_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return foreign.NewLog(os.Stderr, slog.LevelInfo)
}
