package reconfigure_test

import (
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/reconfigure"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func quick() reconfigure.Limits {
	return reconfigure.Limits{Restart: time.Second, Answer: 20 * time.Millisecond, Prove: 20 * time.Millisecond, Retry: 5 * time.Millisecond}
}

func owner(t *testing.T, info fs.FileInfo) (uid, gid uint32) {
	t.Helper()
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	return stat.Uid, stat.Gid
}

// memory is a folder in memory where the machine has one: hundreds of lives
// and deaths need no real disk.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "reconfigure")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
