package configchange

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/d8-registry/registry/internal/node/nodescript"
)

// TestRestartCommand: a program of the host restarts containerd; how it ends is
// what counts, also when it leaves containerd behind with its own output.
func TestRestartCommand(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		script string
		fails  bool
	}{
		"restarts":          {"touch $0.ran", false},
		"leaves it with us": {"touch $0.ran; sleep 30 & exit 0", false},
		"fails":             {"echo SECRET; touch $0.ran; exit 3", true},
		"is not there":      {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "restart")
			if row.script != "" {
				// A program that another test starts at this moment must not inherit the
				// open file: what is open for writing cannot be run.
				syscall.ForkLock.RLock()
				err := os.WriteFile(path, []byte("#!/bin/sh\n"+row.script+"\n"), 0o700)
				syscall.ForkLock.RUnlock()
				if err != nil {
					t.Fatal(err)
				}
			}
			service := ServiceOf(nodescript.Host{Root: "/"}, path, "", slog.New(slog.DiscardHandler))
			if err := service.Check(t.Context()); err != nil {
				t.Error(err)
			}
			err := service.Restart(t.Context())
			if (err != nil) != row.fails || err != nil && (strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), path)) {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(path + ".ran"); (err == nil) != (row.script != "") {
				t.Errorf("it ran: %v", err)
			}
		})
	}
}

// TestNoService: what cannot be restarted is said with the ways out.
func TestNoService(t *testing.T) {
	t.Parallel()
	err := ServiceOf(nodescript.Host{Root: t.TempDir()}, "", "", slog.New(slog.DiscardHandler)).Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "--restart-command=") {
		t.Errorf("%v", err)
	}
	if err := ServiceOf(nodescript.Host{Root: "/"}, "restart", "", nil).Check(t.Context()); err == nil {
		t.Error("a relative path")
	}
}
