package apiserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Backup is what etcd had stored at one moment.
type Backup struct{ dir string }

// Backup stops both processes for a moment and copies what etcd has stored.
func (s *Server) Backup(tb testing.TB) Backup {
	tb.Helper()
	b := Backup{dir: tb.TempDir()}
	s.offline(tb, func(stored string) error { return os.CopyFS(b.dir, os.DirFS(stored)) })
	return b
}

// Restore puts the cluster back to the backup, as an operator does it: etcd and the
// API server stop, and start with the old data. All clients see is that the API
// server was away, and that its versions have gone back.
func (s *Server) Restore(tb testing.TB, b Backup) {
	tb.Helper()
	s.offline(tb, func(stored string) error {
		if err := os.RemoveAll(stored); err != nil {
			return err
		}
		return os.CopyFS(stored, os.DirFS(b.dir))
	})
}

// offline does something with what etcd has stored while nobody uses it.
func (s *Server) offline(tb testing.TB, do func(stored string) error) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.whileStopped(tb.Context(), do); err != nil {
		tb.Fatal(err)
	}
}

func (s *Server) whileStopped(ctx context.Context, do func(stored string) error) error {
	s.plane.Stop()
	stored := filepath.Join(s.plane.dir, etcdDir)
	if err := do(stored); err != nil {
		return fmt.Errorf("copy what etcd stored: %w", err)
	}
	if err := os.Chmod(stored, 0o700); err != nil {
		return fmt.Errorf("copy what etcd stored: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return s.plane.start(ctx)
}
