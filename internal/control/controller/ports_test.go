package controller

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/d8-registry/registry/test/harness/loopback"
)

// What the kubelet and a collector ask is answered before anything else works, and
// connections have limits.
func TestTheControllersPorts(t *testing.T) {
	t.Parallel()
	p := ports{metrics: loopback.Address(t), health: loopback.Address(t), profiles: loopback.Address(t), own: prometheus.NewRegistry(), log: slog.New(slog.DiscardHandler)}
	p.ready = func(*http.Request) error { return errors.New("the cluster is not known yet") }
	ctx, stop := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	if err := p.serve(ctx, group); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		method, url, body string
		status            int
		says              string
	}{
		{"GET", p.health + "/healthz", "", 200, "ok"},
		{"GET", p.health + "/readyz", "", 500, "readyz"},
		{"GET", p.metrics + "/metrics", "", 200, `registry_connections{known="false",listener="health"}`},
		{"GET", p.metrics + "/metrics", "", 200, "certwatcher_"},
		{"GET", p.profiles + "/debug/pprof/heap?debug=1", "", 200, "heap profile"},
		{"GET", p.metrics + "/debug/pprof/heap", "", 404, ""},
		{"GET", p.health + "/debug/pprof/heap", "", 404, ""},
		{"POST", p.health + "/healthz", "a body", http.StatusRequestEntityTooLarge, "body"},
		{"POST", p.metrics + "/metrics", "", http.StatusMethodNotAllowed, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+c.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(text), c.says) {
			t.Errorf("%s %s: %d %.200s", c.method, c.url, resp.StatusCode, text)
		}
	}
	stop()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	taken := ports{own: prometheus.NewRegistry(), metrics: "0", health: "127.0.0.1:99999", ready: p.ready, log: p.log}
	if err := taken.serve(t.Context(), group); err == nil || !strings.Contains(err.Error(), "health") {
		t.Errorf("a port that is none: %v", err)
	}
}
