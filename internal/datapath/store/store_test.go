package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestEverythingAgainWithoutTheRegistry: eight nodes pull in four parts each, and each byte
// is fetched once; then the registry is gone, and everything is there again, after a restart
// of the store too.
func TestEverythingAgainWithoutTheRegistry(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	image := p.push("v1", 3, 3<<20)
	all := func(what string) {
		t.Helper()
		var nodes sync.WaitGroup
		for range 8 {
			c := p.client(4)
			nodes.Go(func() {
				if err := c.pull(t.Context(), tool, "v1"); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		nodes.Wait()
	}
	all("cold")
	total := image.manifest + image.config
	for _, layer := range image.layers {
		total += layer.size
		// What the registry sends of an answer that is not read to its end is lost.
		if got := p.registry.Bytes(layer.digest); got < layer.size || got > 2*layer.size {
			t.Errorf("%d bytes of a layer of %d were sent", got, layer.size)
		}
	}
	if got := p.fetched(); got != total {
		t.Errorf("%d bytes were fetched of %d", got, total)
	}
	p.registry.Stop()
	all("without the registry")
	p.end(p.stop, p.ended)
	p.launch()
	p.becomesReady()
	all("after a restart, without the registry")
	if s := p.status(); s.Stored == nil || s.Stored.Bytes < 9<<20 || s.Stored.Blobs < 5 {
		t.Errorf("stored: %+v", s.Stored)
	}
}

// TestWhatIsMissingIsSaidAtOnce, and everybody is told to go elsewhere.
func TestWhatIsMissingIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	p.registry.PushRandom(t, "team/tool", "v1", 1, 10_000)
	folder := p.cfg.Data
	p.cfg.Data = filepath.Join(folder, "mounted-later")
	p.launch()
	code, text := p.ask("/readyz")
	for _, want := range []string{"no certificate yet", "no disk"} {
		if code != http.StatusServiceUnavailable || !strings.Contains(text, want) {
			t.Errorf("with nothing: %d %q, want %q", code, text, want)
		}
	}
	c := p.client(1)
	limited, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := c.get(limited, tool+"/manifests/v1", ""); err == nil || limited.Err() != nil {
		t.Errorf("without a certificate: %v", err)
	}
	for _, step := range []struct {
		key  string
		want string // of what is asked after it
	}{
		{"tls.crt", ""}, {"tls.key", "no users yet"}, {v1alpha1.KeyProxyUsers, "no disk"}, {v1alpha1.KeyProxyLayout, "no disk"},
	} {
		fronttest.WriteFiles(t, p.cfg.ConfigDir, map[string][]byte{step.key: p.content[step.key]})
		if step.want == "" {
			continue
		}
		eventually(t, step.want, func() bool {
			_, err := c.get(t.Context(), tool+"/manifests/v1", "")
			return err != nil && strings.Contains(err.Error(), "503") && strings.Contains(err.Error(), step.want)
		})
	}
	eventually(t, "the layout", func() bool { return p.status().Generation == 1 })
	if s := p.status(); s.Ready || !strings.Contains(s.Problem, "mounted-later") || s.Stored != nil {
		t.Errorf("without a disk: %+v", s)
	}
	if err := os.Mkdir(p.cfg.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	p.becomesReady()
	if err := c.pull(t.Context(), tool, "v1"); err != nil {
		t.Error(err)
	}
	s := p.status()
	want := regauth.Fingerprint(p.content[v1alpha1.KeyProxyUsers], p.content["tls.crt"])
	if !s.Ready || s.Problem != "" || s.Identity != want || len(s.Version) != 64 || s.Proven != 1 || s.LayoutSchema != 2 || s.ConfigVersion != "v1" {
		t.Errorf("with all: %+v", s)
	}
}

func TestOnlyOneHasTheFolder(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	second := *p
	second.launch()
	select {
	case err := <-second.ended:
		second.ended <- nil // for the test's end
		if !errors.Is(err, disk.ErrInUse) || !strings.Contains(err.Error(), p.cfg.Data+" is in use by another registry-store") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a second one goes on")
	}
	if code, _ := p.ask("/readyz"); code != http.StatusOK {
		t.Errorf("the first one: %d", code)
	}
}

// TestRotation: certificate and users are replaced again and again while nodes pull all the
// time, each with a new connection, and none fails.
func TestRotation(t *testing.T) {
	t.Parallel()
	const nodes, rounds = 4, 5
	p := start(t, nil)
	p.registry.PushRandom(t, "team/tool", "v1", 2, 100_000)
	var password atomic.Pointer[string]
	password.Store(new(fronttest.NodePassword))
	certificates := [][]byte{p.content["tls.crt"]}
	var keys [][]byte
	for range rounds {
		certificate, key := fronttest.Certificate(t)
		certificates, keys = append(certificates, certificate), append(keys, key)
	}
	ctx, over := context.WithCancel(t.Context())
	var done [nodes]atomic.Int64
	var failed atomic.Int64
	var all sync.WaitGroup
	for n := range nodes {
		c := p.client(2, certificates...)
		c.http.Transport.(*http.Transport).DisableKeepAlives = true
		c.password = func() string { return *password.Load() }
		all.Go(func() {
			for ctx.Err() == nil {
				if err := c.pull(context.WithoutCancel(ctx), tool, "v1"); err != nil && failed.Add(1) < 5 {
					t.Error(err)
				}
				done[n].Add(1)
			}
		})
	}
	allPulled := func() {
		for n := range nodes {
			before := done[n].Load()
			eventually(t, "all pull", func() bool { return done[n].Load() >= before+2 })
		}
	}
	entry := func(password string) string {
		return fmt.Sprintf("- {name: node, sha256: %s, role: node}\n", fronttest.Sum(password))
	}
	inUse := func(users string, certificate []byte) {
		t.Helper()
		eventually(t, "the files are in use", func() bool { return p.status().Identity == regauth.Fingerprint([]byte(users), certificate) })
	}
	old := fronttest.NodePassword
	for round := range rounds {
		next := fmt.Sprintf("password-%d", round)
		both := entry(next) + entry(old)
		certificate := certificates[round+1]
		fronttest.WriteFiles(t, p.cfg.ConfigDir, map[string][]byte{"tls.crt": certificate})
		allPulled() // with the former: there is only half of a new one
		fronttest.WriteFiles(t, p.cfg.ConfigDir, map[string][]byte{"tls.key": keys[round], v1alpha1.KeyProxyUsers: []byte(both)})
		inUse(both, certificate)
		password.Store(&next)
		allPulled()
		fronttest.WriteFiles(t, p.cfg.ConfigDir, map[string][]byte{v1alpha1.KeyProxyUsers: []byte(entry(next))})
		inUse(entry(next), certificate)
		old = next
	}
	allPulled()
	over()
	all.Wait()
	total := int64(0)
	for n := range nodes {
		total += done[n].Load()
	}
	t.Logf("%d pulls, %d failed", total, failed.Load())
	if c := p.client(1, certificates...); failed.Load() == 0 {
		if err := c.pull(t.Context(), tool, "v1"); err == nil {
			t.Error("the first password is still good")
		}
	}
}

// TestStoppedInMidFill: told to stop while a layer comes, it keeps what is there, and the next
// process has the rest fetched.
func TestStoppedInMidFill(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	p := start(t, func(c *Config) { c.Drain = 100 * time.Millisecond })
	layer := p.push("v1", 1, size).layers[0]
	p.registry.SetFaults(testregistry.Faults{StallAfter: size / 2, Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, layer.hex()) }})
	c := p.client(1)
	cut := make(chan error, 1)
	go func() { cut <- c.pull(context.WithoutCancel(t.Context()), tool, "v1") }()
	eventually(t, "half of it is there", func() bool { return p.registry.Bytes(layer.digest) >= size/2 })
	p.end(p.stop, p.ended)
	if err := <-cut; err == nil {
		t.Error("half of a layer was taken for a whole one")
	}
	if left := leftOver(t, p.cfg.Data); len(left) != 1 {
		t.Fatalf("left over: %v", left)
	}
	p.registry.SetFaults(testregistry.Faults{})
	p.launch()
	p.becomesReady()
	if err := p.client(1).pull(t.Context(), tool, "v1"); err != nil {
		t.Error(err)
	}
	if got := p.registry.Bytes(layer.digest); got < layer.size || got > layer.size+layer.size/8 {
		t.Errorf("%d bytes were fetched of a layer of %d", got, layer.size)
	}
}

// TestDrain: told to stop, it has a layer that was asked for fetched and served to its end.
func TestDrain(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	layer := p.push("v1", 1, 1<<20).layers[0]
	p.registry.SetFaults(testregistry.Faults{Latency: time.Second})
	c := p.client(1)
	got := make(chan error, 1)
	go func() {
		data, err := c.get(context.WithoutCancel(t.Context()), tool+"/blobs/"+layer.digest, "")
		if err == nil && int64(len(data)) != layer.size {
			err = fmt.Errorf("%d bytes of %d", len(data), layer.size)
		}
		got <- err
	}()
	eventually(t, "it is asked for", func() bool { return len(p.registry.Requests()) > 0 })
	p.stop()
	eventually(t, "not ready", func() bool { code, _ := p.ask("/readyz"); return code != http.StatusOK })
	if err := <-got; err != nil {
		t.Error(err)
	}
	if n := p.registry.Count(func(r testregistry.Request) bool {
		return r.Digest == layer.digest && r.Status != http.StatusUnauthorized
	}); n != 1 {
		t.Errorf("the layer was asked for %d times: not by the store", n)
	}
}
