package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestANewDirectoryIsConfiguration: the first file of conf.d comes with the
// directory, which could not be watched before.
func TestANewDirectoryIsConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWatcher(slog.New(slog.DiscardHandler))
	if w.fs == nil {
		t.Skip("no inotify")
	}
	w.watchConfig([]string{dir})
	changes := make(chan bool, 10)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	go w.run(ctx, func(config bool) { changes <- config })
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if <-changes {
		t.Error("a note is taken for configuration")
	}
	if err := os.MkdirAll(filepath.Join(dir, "conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "conf.d", "custom.toml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !<-changes {
		t.Error("a new conf.d goes unnoticed until the next proof")
	}
}
