package store

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// pin has a store know images in use.
func (p *process) pin(lines ...string) {
	p.t.Helper()
	fronttest.WriteFiles(p.t, p.cfg.ConfigDir, map[string][]byte{keyPins: []byte(strings.Join(lines, "\n") + "\n")})
}

// has waits until so many images are in use, and all of so many are here.
func (p *process) has(images, here int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%d of %d images are here", here, images), func() bool {
		s := p.status()
		return s.Stored != nil && s.Stored.Pins == images && s.Stored.PinsHere == here
	})
}

func quick(c *Config) { c.again = 50 * time.Millisecond }

// TestWhatIsMissingIsFetched: nobody pulls, and without the registry a node gets all, by tag and by
// digest, after a restart too.
func TestWhatIsMissingIsFetched(t *testing.T) {
	t.Parallel()
	p := start(t, quick)
	one, two := p.push("v1", 2, 300_000), p.push("v2", 1, 100_000)
	p.pin("tool:v1", "tool@"+two.digest)
	p.has(2, 2)
	for _, l := range append(one.layers, two.layers...) {
		if got := p.registry.Bytes(l.digest); got != l.size {
			t.Errorf("%d bytes of %d", got, l.size)
		}
	}
	if got := p.counted("registry_store_pinned_images"); got != 2 {
		t.Errorf("%d images", got)
	}
	p.registry.Stop()
	for range 2 {
		for _, reference := range []string{"v1", two.digest} {
			if err := p.client(1).pull(t.Context(), tool, reference); err != nil {
				t.Error(err)
			}
		}
		p.has(2, 2)
		p.end(p.stop, p.ended)
		p.launch()
		p.becomesReady()
	}
}

// TestALineThatIsWrong changes nothing, and is named.
func TestALineThatIsWrong(t *testing.T) {
	t.Parallel()
	p := start(t, quick)
	one := p.push("v1", 1, 10_000)
	p.pin("tool@" + one.digest)
	p.has(1, 1)
	for _, wrong := range []string{"../../etc/passwd", one.digest, "tool", "tool:v1\n@sha256:1"} {
		p.pin(wrong)
		eventually(t, wrong, func() bool { return strings.Contains(p.status().Problem, "pins: line ") })
		p.has(1, 1)
	}
	p.pin("tool@"+one.digest, "tool@sha256:"+strings.Repeat("0", 64))
	p.has(2, 1)
	if s := p.status(); s.Problem != "" {
		t.Error(s.Problem)
	}
}

// TestPinnedLayersStay: what an image in use names is not evicted for what nobody uses.
func TestPinnedLayersStay(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { quick(c); c.Quota = 500_000 })
	used := p.push("used", 2, 80_000)
	p.pin("tool@" + used.digest)
	p.has(1, 1)
	for range 8 {
		p.push("other", 1, 100_000)
		if err := p.client(1).pull(t.Context(), tool, "other"); err != nil {
			t.Fatal(err)
		}
	}
	if p.counted("registry_store_evicted_bytes_total") == 0 {
		t.Error("nothing was evicted")
	}
	p.registry.Stop()
	if err := p.client(1).pull(t.Context(), tool, used.digest); err != nil {
		t.Error(err)
	}
}

// TestATagMoves: what it meant may go, and what it means is fetched.
func TestATagMoves(t *testing.T) {
	t.Parallel()
	p := start(t, quick)
	p.push("v1", 1, 200_000)
	p.pin("tool:v1")
	p.has(1, 1)
	before := p.status().Stored.PinnedBytes
	next := p.push("v1", 1, 500_000)
	eventually(t, "the new one is here, and the old one is not pinned", func() bool {
		s := p.status().Stored
		return s.PinsHere == 1 && s.PinnedBytes > before && s.PinnedBytes < before+400_000 && s.Coming == 0 && p.registry.Bytes(next.layers[0].digest) > 0
	})
	p.registry.Stop()
	if err := p.client(1).pull(t.Context(), tool, next.digest); err != nil {
		t.Error(err)
	}
}

// TestPlatforms: of an index that comes which machines like this one run, and what was asked for.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	p := start(t, quick)
	var children []v1.Image
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{runtime.GOARCH, "s390x", "riscv64"} {
		image, err := random.Image(50_000, 1)
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, image)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	p.registry.Push(t, "team/tool", "index", index)
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	child := func(i int) string {
		d, err := children[i].Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	if _, err := p.client(1).get(t.Context(), tool+"/manifests/"+child(1), ""); err != nil {
		t.Fatal(err)
	}
	p.pin("tool@" + digest.String())
	eventually(t, "7 blobs", func() bool { s := p.status().Stored; return s.PinsHere == 1 && s.Blobs == 7 })
	p.registry.Stop()
	for i, want := range []bool{true, true, false} {
		if err := p.client(1).pull(t.Context(), tool, child(i)); (err == nil) != want {
			t.Errorf("platform %d: %v", i, err)
		}
	}
}

// TestTheRegistryLimits: who is told to wait waits, and goes on by itself.
func TestTheRegistryLimits(t *testing.T) {
	t.Parallel()
	p := start(t, quick)
	one := p.push("v1", 2, 50_000)
	const wait = 2 * time.Second
	asked := make(chan time.Time, 100)
	p.registry.SetFaults(testregistry.Faults{Status: http.StatusTooManyRequests, RetryAfter: "2", Match: func(r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/v2/") {
			return false
		}
		asked <- time.Now()
		return true
	}})
	p.pin("tool@"+one.digest, "tool:v1")
	eventually(t, "it says 429 three times", func() bool { return len(asked) > 2 })
	last := <-asked
	for range 2 {
		at := <-asked
		if t.Logf("%s later", at.Sub(last)); at.Sub(last) < wait {
			t.Errorf("asked again after %s", at.Sub(last))
		}
		last = at
	}
	p.registry.SetFaults(testregistry.Faults{})
	p.has(2, 2)
}

// TestNoRoomForAll: nothing goes past the store when there is no room, and clients' pulls go on.
func TestNoRoomForAll(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { quick(c); c.Quota = 300_000 })
	small, large := p.push("small", 1, 50_000), p.push("large", 1, 1<<20)
	p.pin("tool@"+large.digest, "tool@"+small.digest)
	p.has(2, 1)
	if _, metrics := p.ask("/metrics"); strings.Contains(metrics, "\nregistry_store_bypass_total{") {
		t.Errorf("something went past the store: %s", metrics)
	}
	if err := p.client(1).pull(t.Context(), tool, "large"); err != nil {
		t.Error(err)
	}
}

// TestRestartInTheMiddle: what came of the images in use is not fetched again.
func TestRestartInTheMiddle(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	p := start(t, func(c *Config) { quick(c); c.Drain = 100 * time.Millisecond })
	layer := p.push("v1", 1, size).layers[0]
	p.registry.SetFaults(testregistry.Faults{StallAfter: size / 2, Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, layer.hex()) }})
	p.pin("tool:v1")
	eventually(t, "half of it is there", func() bool { return p.counted("registry_store_upstream_bytes_total") >= size/2 })
	p.end(p.stop, p.ended)
	p.registry.SetFaults(testregistry.Faults{})
	p.launch()
	p.becomesReady()
	p.has(1, 1)
	if got := p.registry.Bytes(layer.digest); got < layer.size || got > layer.size+layer.size/8 {
		t.Errorf("%d bytes were fetched of a layer of %d", got, layer.size)
	}
}

// TestThreeStoresPrefetchOnce: the registry sends each blob once, and without it each of the stores
// serves all.
func TestThreeStoresPrefetchOnce(t *testing.T) {
	t.Parallel()
	c := three(t)
	for _, p := range c.stores {
		quick(&p.cfg)
	}
	c.launch(c.stores...)
	var lines []string
	var all []pushed
	for i := range 4 {
		image := c.stores[0].push(fmt.Sprintf("v%d", i), 3, 100_000)
		all, lines = append(all, image), append(lines, "tool@"+image.digest)
	}
	for _, p := range c.stores {
		p.pin(lines...)
	}
	for _, p := range c.stores {
		p.has(4, 4)
	}
	for _, image := range all {
		if got, _ := c.sent(image.digest); got != image.manifest {
			t.Logf("manifest: %d bytes of %d", got, image.manifest)
		}
		for _, l := range image.layers {
			if got, n := c.sent(l.digest); got != l.size {
				t.Errorf("%d bytes of %d in %d requests", got, l.size, n)
			}
		}
	}
	there := 0
	for _, p := range c.stores {
		there += p.status().Stored.Blobs
	}
	if most := 3*4 + 2*4*4; there > most { // all have the manifests; who owns a blob has it, and the next one
		t.Errorf("%d blobs, over %d", there, most)
	}
	c.registry.Stop()
	for _, p := range c.stores {
		for _, image := range all {
			if err := p.client(1).pull(context.WithoutCancel(t.Context()), tool, image.digest); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestALostDiskComesFromTheOthers: what a store is the owner of it has again from those that have copies
// of it, without the registry.
func TestALostDiskComesFromTheOthers(t *testing.T) {
	t.Parallel()
	c := three(t)
	var lines []string
	for _, p := range c.stores {
		quick(&p.cfg)
		lines = append(lines, "tool@"+p.push(fmt.Sprintf("v%d", len(lines)), 3, 100_000).digest)
	}
	c.launch(c.stores...)
	for _, p := range c.stores {
		p.pin(lines...)
		for i := range c.stores {
			if err := p.client(1).pull(t.Context(), tool, fmt.Sprintf("v%d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "all is everywhere", func() bool {
		return !slices.ContainsFunc(c.stores, func(p *process) bool { return p.status().Stored.Blobs != 3+3*4 })
	})
	c.registry.Stop()
	lost := c.stores[1]
	lost.loseDisk()
	lost.has(3, 3)
}

// TestOnlyWhatIsKept: another store that asks for what is kept has nothing fetched by that; of whoever
// is none it says nothing.
func TestOnlyWhatIsKept(t *testing.T) {
	t.Parallel()
	c := three(t)
	c.launch(c.stores...)
	layer := c.stores[0].push("v1", 1, 10_000).layers[0]
	order := c.of(layer.digest)
	first := order[0]
	ask := func(client *client, password string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+first.clients+"/v2/"+tool+"/blobs/"+layer.digest+"?ns=registry.d8-system.svc:5001", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Registry-Hop", "1")
		req.Header.Set("Cache-Control", "only-if-cached")
		if password != "" {
			req.SetBasicAuth("node", password)
		}
		resp, err := client.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask(c.asStore(order[1], first, nil, nil), ""); got != http.StatusNotFound {
		t.Errorf("before it is kept: %d", got)
	}
	if sent, n := c.sent(layer.digest); sent != 0 || n != 0 {
		t.Errorf("%d bytes in %d requests", sent, n)
	}
	if got := ask(first.client(1), fronttest.NodePassword); got != http.StatusOK {
		t.Errorf("a node: %d", got)
	}
	eventually(t, "it is kept", func() bool { return first.status().Stored.Blobs == 1 })
	if got := ask(c.asStore(order[1], first, nil, nil), ""); got != http.StatusOK {
		t.Errorf("it is kept: %d", got)
	}
}
