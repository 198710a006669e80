package fronts

import (
	"context"
	"log/slog"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/store"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// Store runs registry-store until the end of the test, with 1 GiB. What it serves by is in
// folder ConfigDir, where a test may replace it (fronttest.WriteFiles).
func Store(t testing.TB, upstreams ...upstream.Upstream) (f *Front, cfg store.Config) {
	t.Helper()
	f = &Front{Address: loopback.Address(t), Username: "ro", Password: fronttest.ClientPassword}
	cfg = store.Config{
		ConfigDir: t.TempDir(), Data: t.TempDir(), Listen: f.Address, Health: loopback.Address(t),
		Quota: 1 << 30, Drain: startTimeout,
	}
	data := fronttest.Content(t, 1, upstreams...)
	f.CA, f.serverName = string(data["tls.crt"]), "registry.d8-system.svc"
	fronttest.WriteFiles(t, cfg.ConfigDir, data)
	run(t, func(ctx context.Context, log *slog.Logger) error { return store.Run(ctx, cfg, log) })
	ready(t, "http://"+cfg.Health+"/readyz", nil)
	return f, cfg
}
