package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/agenttest"
)

// TestTheNodeTokenIsReplacedDuringPulls: the token gets old while a real containerd pulls
// all the time. Its files get the new one, the one before ends, and no pull fails.
func TestTheNodeTokenIsReplacedDuringPulls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve.Renew, w.node.ProofInterval = 50*time.Millisecond, 500*time.Millisecond
	_, a := registry(t, "team/a")
	w.start()
	fixed, name := layout.Fixed(), layout.NameOf(a)
	w.publish(a, []layout.Name{fixed, name})
	w.reported()

	var done, failed atomic.Int32
	stop := agenttest.Background(t, "pulls", func(ctx context.Context, _ *slog.Logger) error {
		for i := 0; ctx.Err() == nil; i++ {
			ref := []layout.Name{fixed, name}[i%2].Reference("app:v1")
			if err := w.pull(ref); err == nil {
				done.Add(1)
			} else if ctx.Err() == nil {
				failed.Add(1)
				t.Errorf("pull %d, of %s: %v", i, ref, err)
			}
		}
		return nil
	})
	more := func() {
		t.Helper()
		before := done.Load()
		w.eventually("pulls", func() bool { return done.Load() >= before+4 })
	}
	folder := filepath.Join(w.node.StateDir, "serve")
	token := func() string {
		data, err := os.ReadFile(filepath.Join(folder, "token"))
		w.must(err)
		return strings.TrimSpace(string(data))
	}
	aged := func(file string, days int) {
		at := time.Now().AddDate(0, 0, -days)
		w.must(os.Chtimes(filepath.Join(folder, file), at, at))
	}
	for range 3 {
		more()
		old := token()
		aged("token", 91)
		for _, host := range []string{fixed.Host, name.Host} {
			w.eventually("the new token in containerd's files", func() bool {
				data, err := os.ReadFile(filepath.Join(w.containerd.HostsDir, host, "hosts.toml"))
				return err == nil && token() != old && strings.Contains(string(data), token()) && !strings.Contains(string(data), old)
			})
		}
		more()
		aged("token.before", 2)
		w.eventually("the end of the one before", func() bool {
			_, err := os.Stat(filepath.Join(folder, "token.before"))
			return errors.Is(err, fs.ErrNotExist)
		})
		more()
	}
	stop()
	t.Logf("%d pulls, %d failed", done.Load()+failed.Load(), failed.Load())
}
