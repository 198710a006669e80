package serve_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/serve"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// TestMetrics: one set for table and handler, at an address of its own; without
// one, or where it is taken, pulls are served all the same.
func TestMetrics(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	ns := api.Namespace(t)
	address := loopback.Address(t)
	a := start(t, api.Config(), ns, t.TempDir(), func(c *serve.Config) { c.MetricsListen = address })
	if code, _ := a.get(a.token, "/v2/x/manifests/v1", layout.Fixed().Host); code != http.StatusServiceUnavailable {
		t.Errorf("code %d", code)
	}
	text, prometheus := "", &http.Client{Timeout: 10 * time.Second}
	for deadline := time.Now().Add(10 * time.Second); text == "" && time.Now().Before(deadline); {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := prometheus.Do(req)
		if err != nil {
			<-time.After(10 * time.Millisecond)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		text = string(body)
	}
	for _, want := range []string{
		"registry_proxy_generation 0", `registry_proxy_requests_total{code="503",kind="manifests"} 1`, "go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, a.token) {
		t.Error("the token is in the metrics")
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	b := start(t, api.Config(), ns, t.TempDir(), func(c *serve.Config) { c.MetricsListen = taken.Addr().String() })
	if code, _ := b.get(b.token, "/v2/x/manifests/v1", layout.Fixed().Host); code != http.StatusServiceUnavailable {
		t.Errorf("with a taken address: code %d", code)
	}
}
