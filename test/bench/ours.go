package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/memory"
)

// serve is the data path without TLS: the programs' own handler and listener.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	address := flags.String("listen", "", "address")
	file := flags.String("layout", "", "file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	data, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("read the layout: %w", err)
	}
	l, err := layout.Decode(data)
	if err != nil {
		return err
	}
	_, metrics, err := proxy.NewRegistry(func() int64 { return 1 })
	if err != nil {
		return err
	}
	table := routes.NewTable(metrics)
	if err := table.Swap(l); err != nil {
		return err
	}
	memory.CollectAt(memory.SmallRequests) // as the programs
	log := foreign.NewLog(os.Stderr, slog.LevelInfo)
	pulls := proxy.New(table, proxy.Config{Log: log, Metrics: metrics})
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return inbound.New(inbound.Known(pulls), inbound.Config{Name: "pulls", Limits: inbound.Loopback(), Log: log}).
		Serve(ctx, listener, inbound.Drain{})
}

// serveLayout is as much of an API server as registry-agent serve needs: one Secret and
// a watch in which nothing happens. It returns the kubeconfig.
func serveLayout(dir string, published []byte) (string, error) {
	secret := map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{"name": v1alpha1.SecretAgent, "namespace": v1alpha1.Namespace, "resourceVersion": "1", "uid": "1"},
		"data":     map[string][]byte{v1alpha1.KeyLayout: published},
	}
	list := map[string]any{"apiVersion": "v1", "kind": "SecretList", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{secret}}
	answer, err := json.Marshal(list)
	if err != nil {
		return "", fmt.Errorf("encode the Secret: %w", err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // it ends with this process
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			_, _ = w.Write(answer) // the agent may be gone
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // the same
		<-r.Context().Done()
	}))
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],`+
		`"clusters":[{"name":"x","cluster":{"server":"%s"}}],"users":[{"name":"x","user":{}}]}`, server.URL)
	at := filepath.Join(dir, "kubeconfig")
	return at, os.WriteFile(at, []byte(text), 0o600)
}
