package store

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// program is the real one.
type program struct {
	t       *testing.T
	path    string
	process *process
	cmd     *exec.Cmd
}

func build(t *testing.T, p *process) *program {
	t.Helper()
	to := filepath.Join(t.TempDir(), "registry-store")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", to, "../../../cmd/registry-store").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return &program{t: t, path: to, process: p}
}

// run starts it and returns when it serves, with how long that took.
func (p *program) run() time.Duration {
	p.t.Helper()
	s := p.process
	p.cmd = exec.CommandContext(context.WithoutCancel(p.t.Context()), p.path, "--config-dir", s.cfg.ConfigDir, "--data", s.cfg.Data,
		"--listen", s.clients, "--health-listen", s.health, "--quota", strconv.FormatInt(s.cfg.Quota, 10), "--floor", "0")
	p.cmd.Stderr = p.t.Output()
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	s.becomesReady()
	return time.Since(begun)
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // an error is what it was killed by
}

// TestKillInMidFill: kill -9 while a large layer comes. The next process serves within a
// second, has the rest of the layer fetched, and not all of it anew.
func TestKillInMidFill(t *testing.T) {
	t.Parallel()
	const size, there, noted = 100 << 20, 72 << 20, 64 << 20 // see fill.Config.Keep
	p := newProcess(t)
	fronttest.WriteFiles(t, p.cfg.ConfigDir, p.content)
	p.clients, p.health = loopback.Address(t), loopback.Address(t)
	layer := p.push("v1", 1, size).layers[0]
	p.registry.SetFaults(testregistry.Faults{StallAfter: there, Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, layer.hex()) }})
	of := build(t, p)
	of.run()
	t.Cleanup(func() { of.kill() })

	cut := make(chan error, 1)
	go func() { cut <- p.client(1).pull(context.WithoutCancel(t.Context()), tool, "v1") }()
	eventually(t, "what came was noted", func() bool {
		left := leftOver(t, p.cfg.Data)
		return len(left) == 1 && p.registry.Bytes(layer.digest) >= there
	})
	of.kill()
	if err := <-cut; err == nil {
		t.Error("a part of a layer was taken for the whole")
	}
	if entries, err := os.ReadDir(filepath.Join(p.cfg.Data, "blobs", "sha256")); err != nil || len(entries) > 2 { // manifest and configuration
		t.Errorf("whole blobs: %v, %v", entries, err)
	}
	p.registry.SetFaults(testregistry.Faults{})
	before := p.registry.Bytes(layer.digest)
	fastest := time.Hour // a machine that does much else is slow at times
	for range 5 {
		if took := of.run(); took < fastest {
			fastest = took
		}
		if fastest < time.Second {
			break
		}
		of.kill()
	}
	if fastest > time.Second {
		t.Errorf("it serves after %s", fastest)
	}
	if err := p.client(1).pull(t.Context(), tool, "v1"); err != nil {
		t.Error(err)
	}
	after := p.registry.Bytes(layer.digest) - before
	t.Logf("it serves after %s; %d of %d bytes were fetched after it was killed", fastest, after, layer.size)
	if after > layer.size-noted+1<<20 {
		t.Errorf("%d of %d bytes were fetched after it was killed: the %d that were noted were there", after, layer.size, noted)
	}
}
