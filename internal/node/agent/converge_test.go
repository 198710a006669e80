package agent

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/configchange"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hosts"
	"github.com/d8-registry/registry/internal/node/proof"
	"github.com/d8-registry/registry/internal/node/reach"
	"github.com/d8-registry/registry/internal/node/reconfigure"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/upstream"
)

// servingHalf is a serving half that answers no question, and the client of it.
func servingHalf(t *testing.T, asked func()) *served {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked()
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	state, err := handoff.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, data := range map[string][]byte{"token": []byte("token"), "ca.crt": ca} {
		if err := os.WriteFile(filepath.Join(dir, "serve", name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client, err := handoff.NewClient(server.URL, state, "token")
	if err != nil {
		t.Fatal(err)
	}
	return &served{client: client}
}

// TestChangeWaitsForDirectories: while host directories cannot be set up for some
// seconds, a change that began is kept. The time that proofs take in the same pass
// does not count.
func TestChangeWaitsForDirectories(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		proofs [2]time.Duration // how long they take in two passes, one after the other
		kept   [2]bool
	}{
		"the first takes long":  {[2]time.Duration{15 * time.Second, 0}, [2]bool{true, false}},
		"the second takes long": {[2]time.Duration{0, 15 * time.Second}, [2]bool{true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, pass := time.Now(), 0
			s := servingHalf(t, func() { now = now.Add(row.proofs[pass]) })
			log := slog.New(slog.DiscardHandler)
			empty, err := handoff.Open(t.TempDir()) // without a token, no host directory can be written
			if err != nil {
				t.Fatal(err)
			}
			a := &Agent{
				report:  report.New(report.Options{Now: func() time.Time { return now }}),
				serving: &serving{state: empty, log: log},
				hosts:   hosts.New(hosts.Options{Log: log}),
				proofs:  proof.New(nil, "127.0.0.1:5001", time.Hour),
				reach:   reach.New("node", time.Hour, 0),
				memory:  loadMemory(empty, log),
				change:  configchange.New(configchange.Options{Log: log, StateDir: t.TempDir(), HostRoot: t.TempDir(), Save: func(configchange.MainFile) {}}),
			}
			target := upstream.Upstream{Host: "127.0.0.1:1", Scheme: upstream.HTTPS}
			l := layout.Layout{Generation: 1, Target: target, Active: target, Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{target})}
			own := &registryv1alpha1.RegistryNode{Status: registryv1alpha1.RegistryNodeStatus{Restart: &registryv1alpha1.RestartStatus{ID: "x"}}}
			for pass = range row.kept {
				r := a.report.Begin()
				r.Own = own
				r.Prove(report.LastProved{Generation: 1, Names: names(l)}) // so that it is asked again
				a.converge(t.Context(), r, l, s, &containerd.Facts{HostsDir: t.TempDir(), ConfigFile: "/config.toml", Preflight: containerd.Ready})
				if kept := r.Status.Restart != nil; kept != row.kept[pass] {
					t.Errorf("pass %d: the restart is kept: %t; %v", pass+1, kept, r.Problems())
				}
			}
		})
	}
}

// restarted is a containerd that was restarted for a change, and is again whenever
// that is asked for.
type restarted struct {
	reconfigure.Runtime
	run int
}

func (c *restarted) Instance(context.Context) (string, error) {
	return fmt.Sprintf("boot/%d", c.run), nil
}
func (*restarted) Answers(context.Context) error                             { return nil }
func (*restarted) Lost(context.Context, []string) (lost []string, err error) { return nil, nil }
func (*restarted) Check(context.Context) error                               { return nil }
func (c *restarted) Restart(context.Context) error                           { c.run++; return nil }

// TestResumedChangeIsProved: a change that an earlier agent was stopped in can be
// proved while containerd is silent, if the serving half has a layout.
func TestResumedChangeIsProved(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		serve  *served
		layout layout.Layout
		proved bool
	}{
		"no serving half": {nil, layout.Layout{Generation: 1}, false},
		"no layout":       {&served{}, layout.Layout{}, false},
		"both":            {&served{}, layout.Layout{Generation: 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const journal = `{"id":"x","shown":"/config.toml","step":"restart","path":"/hosts","before":"absent","after":"a","instance":"boot/1","from":"boot/1"}`
			dir, log, runtime := t.TempDir(), slog.New(slog.DiscardHandler), &restarted{run: 2}
			const main = "[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/hosts'\n"
			for name, text := range map[string]string{"reconfigure.json": journal, "config.toml": main} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			silent, err := containerd.Dial(filepath.Join(dir, "none"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = silent.Close() }()
			a := &Agent{
				report:     report.New(report.Options{}),
				containerd: newInspector(Config{}, silent, log, func() {}),
				change: configchange.New(configchange.Options{
					Log: log, StateDir: dir, HostRoot: dir, Main: configchange.MainFile{Path: "/config.toml"},
					Runtime: runtime, Service: func(string) reconfigure.Service { return runtime },
					Limits:       reconfigure.Limits{Prove: time.Millisecond},
					WriteRestart: func(context.Context, registryv1alpha1.RestartStatus) {},
				}),
			}
			r := a.report.Begin()
			a.resume(t.Context(), r, row.layout, row.serve)
			if s := r.Status.Restart; s == nil || strings.Contains(s.Message, "nothing to prove it with") == row.proved || !strings.Contains(s.Message, "does not follow it") {
				t.Errorf("%+v; %v", s, r.Problems())
			}
		})
	}
}
