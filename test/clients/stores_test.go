package clients

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/fronts"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/parts"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// byParts has containerd 2.x fetch a layer in several ranges at a time.
const byParts = "[plugins.'io.containerd.transfer.v1.local']\n  max_concurrent_downloads = 4\n  concurrent_layer_fetch_buffer = 1048576\n"

// stalled is where the registry falls silent in a layer.
const stalled = 2 << 20

// proxied is a node in mode Proxy: its agent has three stores in front of one registry.
type proxied struct {
	node
	t        *testing.T
	registry *testregistry.Registry
	stores   *fronts.Stores
	dead     map[string]bool // stores, by endpoint
	parts    bool            // it fetches layers in parts
}

// TestProxyMode pulls by CRI, with each containerd and with a 2.x that fetches in parts: an image
// that nobody has, the same again, images during whose pull a store is killed, and all of them
// when the registry is off. The registry sends each byte once.
func TestProxyMode(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	program := fronts.StoreProgram(t)
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			newProxied(t, program, v, "").pullsAll()
		})
	}
	t.Run("2.x in parts", func(t *testing.T) {
		t.Parallel()
		newProxied(t, program, containerdtest.V2, byParts).pullsAll()
	})
}

func newProxied(t *testing.T, program string, v containerdtest.Version, settings string) *proxied {
	t.Helper()
	registry := testregistry.New(t, testregistry.Options{TLS: true, Username: "up", Password: "of the registry", Bearer: true})
	stores := fronts.NewStores(t, program, 3, registry.Upstream("team"))
	stores.Run()
	p := &proxied{node: prepared(t, v, settings), t: t, registry: registry, stores: stores, dead: map[string]bool{}, parts: settings != ""}
	p.Serving.Name, p.Serving.MetricsListen = p.Name, loopback.Address(t)
	p.Start()
	p.Publish(stores.Layout(registry.Upstream("team")))
	p.Reported()
	return p
}

// pullsAll is the whole of it. Stores that were killed stay away until the registry is off: the
// agent has others to ask meanwhile.
func (p *proxied) pullsAll() {
	p.t.Helper()
	cold := p.push("cold", 3, func(string) bool { return true })
	p.must(cold)
	for _, i := range cold.all {
		p.once("cold", i, 0)
	}
	p.inParts()
	p.forget(p.t, cold)
	before := p.asked(cold)
	p.must(cold)
	if n := p.asked(cold) - before; n != 0 {
		p.t.Errorf("warm: the registry was asked for content %d times", n)
	}
	p.withoutStores(cold)
	order := p.stores.Of(p.Name)
	all := []content{
		cold,
		// The owner of the layer goes on with it, and whoever is asked next gets it from there.
		p.killed("asked", order[0], 0, func(owner string) bool { return owner != order[0].Address }),
		// What is killed is the owner: the next one begins anew.
		p.killed("owner", order[1], 4*stalled, func(owner string) bool { return owner == order[1].Address }),
	}
	for _, s := range order[:2] {
		s.Run()
		delete(p.dead, s.Address)
	}
	p.registry.Stop()
	for _, c := range all {
		p.forget(p.t, c)
		p.must(c)
	}
	for _, s := range order {
		s.Kill()
	}
	p.forget(p.t, cold)
	if err := p.pulled(p.t.Context(), cold); err == nil {
		p.t.Error("with neither stores nor a registry it was pulled")
	}
}

// push makes an image of 8 MiB layers whose first one has an owner as wanted.
func (p *proxied) push(name string, layers int, wanted func(owner string) bool) content {
	p.t.Helper()
	for {
		c := from(p.t, name, p.registry.PushRandom(p.t, "team/"+name, tag, layers, 8<<20))
		if wanted(p.stores.Of(c.all[1].digest)[0].Address) {
			return c
		}
	}
}

func (p *proxied) must(c content) {
	p.t.Helper()
	if err := p.pulled(p.t.Context(), c); err != nil {
		p.t.Fatalf("%s: %v", c.name, err)
	}
}

// pulled is one attempt, as the kubelet makes it, and what containerd then has.
func (p *proxied) pulled(ctx context.Context, c content) error {
	if _, err := p.CRI.PullImage(ctx, layout.Fixed().String()+"/"+c.name+":"+tag); err != nil {
		return err
	}
	got, err := sums(c.node, p.blob)
	for digest, is := range got {
		if is != digest {
			p.t.Errorf("%s: %s is %s", c.name, digest, is)
		}
	}
	return err
}

// requests are those that the registry answered with an item, or a part of it.
func (p *proxied) requests(i item) (all []testregistry.Request) {
	for _, r := range p.registry.Requests() {
		if r.Method == http.MethodGet && r.Status < http.StatusBadRequest && i.is(filepath.Base(r.Path)) {
			all = append(all, r)
		}
	}
	return all
}

// sent is how many bytes of an item the registry sent.
func (p *proxied) sent(i item) (bytes int64) {
	for _, r := range p.requests(i) {
		bytes += r.Bytes
	}
	return bytes
}

// asked is how often it was asked for something of an image.
func (p *proxied) asked(c content) (times int) {
	for _, i := range c.all {
		times += len(p.requests(i))
	}
	return times
}

// once demands that each byte of something came from the registry once; on a busy machine once
// more for each time when a store gave no sign of life and was passed by. What a store that was
// killed had of it may be lost, which is counted as spare.
func (p *proxied) once(name string, i item, spare int64) {
	p.t.Helper()
	passed := int64(p.passedBy())
	sent := p.sent(i)
	p.t.Logf("%s: %d bytes of %d in %d requests, stores passed by %d times", name, sent, i.size, len(p.requests(i)), passed)
	if sent < i.size || sent > i.size*(1+passed)+spare {
		p.t.Errorf("%s: the registry sent %d bytes of %s, which has %d", name, sent, i.digest, i.size)
	}
}

// passedBy is how often a store that runs was passed by, by the agent or by another store.
func (p *proxied) passedBy() (times float64) {
	p.t.Helper()
	at := []string{p.Serving.MetricsListen}
	for endpoint, s := range p.stores.All {
		if !p.dead[endpoint] {
			at = append(at, s.Metrics)
		}
	}
	for endpoint := range p.stores.All {
		for _, address := range at {
			if !p.dead[endpoint] {
				times += fronts.Counted(p.t, address, "registry_proxy_upstream_attempts_total", `upstream="`+endpoint+`"`, `outcome="no_connection"`)
			}
		}
	}
	return times
}

// blobs is how often containerd asked for layers and configurations, or for parts of them.
func (p *proxied) blobs(labels ...string) float64 {
	p.t.Helper()
	return fronts.Counted(p.t, p.Serving.MetricsListen, "registry_proxy_requests_total", append(labels, `kind="blobs"`)...)
}

// inParts demands that containerd asked for layers as it was told to: in parts or as a whole.
func (p *proxied) inParts() {
	p.t.Helper()
	if parts := p.blobs(`code="206"`); (parts > 0) != p.parts {
		p.t.Errorf("%.0f parts of layers were asked for", parts)
	}
}

// withoutStores is the control: a layout without stores has each byte sent again.
func (p *proxied) withoutStores(c content) {
	p.t.Helper()
	upstream := p.registry.Upstream("team")
	p.forget(p.t, c)
	p.Publish(fronts.Layout(upstream))
	p.Reported()
	before := p.sent(c.all[1])
	p.must(c)
	if got := p.sent(c.all[1]) - before; got < c.all[1].size {
		p.t.Errorf("without stores the registry sent %d bytes of a layer of %d", got, c.all[1].size)
	}
	p.forget(p.t, c)
	p.Publish(p.stores.Layout(upstream))
	p.Reported()
}

// killed pulls an image, and kills the store that is asked when a part of a layer is at the client
// and the rest is not at the store.
func (p *proxied) killed(name string, victim *fronts.StoreProcess, spare int64, wanted func(owner string) bool) content {
	p.t.Helper()
	c := p.push(name, 1, wanted)
	layer := c.all[1]
	p.registry.SetFaults(testregistry.Faults{StallAfter: stalled, Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, layer.digest) }})
	before := p.blobs()
	result := make(chan error, 1)
	go func() { result <- p.pulled(context.WithoutCancel(p.t.Context()), c) }()
	p.until(name+": a part of the layer is at the client", func() bool { return p.arriving() > stalled/2 })
	p.registry.SetFaults(testregistry.Faults{})
	victim.Kill()
	p.dead[victim.Address] = true
	if err := <-result; err != nil {
		p.t.Errorf("%s: a pull during which a store was killed: %v", name, err)
	}
	if asked := p.blobs() - before; !p.parts && asked != float64(len(c.all)-1) {
		p.t.Errorf("%s: containerd noticed: it asked %.0f times for %d blobs", name, asked, len(c.all)-1)
	}
	p.once(name, layer, spare)
	return c
}

// arriving is how much of content containerd is writing.
func (p *proxied) arriving() (bytes int64) {
	files, err := filepath.Glob(filepath.Join(p.Containerd.Dir, "root/io.containerd.content.v1.content/ingest/*/data"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil { // else it has just been committed
			bytes += info.Size()
		}
	}
	return bytes
}

func (p *proxied) until(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("never: %s", what)
		}
	}
}
