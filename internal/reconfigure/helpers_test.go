package reconfigure_test

import (
	"io/fs"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/reconfigure"
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
