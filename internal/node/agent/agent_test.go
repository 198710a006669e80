package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/d8-registry/registry/internal/node/configchange"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
)

// TestHostsDirIsTheOperators: who names the host directory with --hosts-dir also
// tells containerd about it. The agent leaves the main file alone then.
func TestHostsDirIsTheOperators(t *testing.T) {
	t.Parallel()
	for _, hostsDir := range []string{"", "/etc/containerd/certs.d"} {
		dir := t.TempDir()
		folder, err := handoff.Use(t.Context(), dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(folder.Close)
		a, err := newAgent(Config{
			StateDir: dir, Kube: &rest.Config{}, Socket: filepath.Join(dir, "none"), HostRoot: "/", HostsDir: hostsDir,
		}, folder, slog.New(slog.DiscardHandler), func() {})
		if err != nil {
			t.Fatal(err)
		}
		r := a.report.Begin()
		nothing := a.change.Converge(t.Context(), r, configchange.Task{
			Facts: &containerd.Facts{ConfigFile: filepath.Join(dir, "config.toml"), Preflight: containerd.Ready, NeedsPath: "/etc/containerd/certs.d"},
			Prove: func(context.Context, string) error { return nil },
		})
		if alone := hostsDir != ""; nothing != alone || len(r.Problems()) == 0 != alone {
			t.Errorf("--hosts-dir=%s: nothing to do: %t; %q", hostsDir, nothing, r.Problems())
		}
	}
}
