package store

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/owner"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// trio is three stores in front of one registry.
type trio struct {
	t         *testing.T
	ca        pki.KeyPair
	registry  *testregistry.Registry
	stores    []*process
	endpoints []string
}

// three are not launched yet.
func three(t *testing.T) *trio {
	t.Helper()
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &trio{t: t, ca: ca}
	for range 3 {
		p := newProcess(t)
		p.cfg.Listen, p.cfg.Health = loopback.Address(t), loopback.Address(t)
		p.cfg.hop, p.cfg.budget = time.Minute, 2*time.Minute // machines of tests are busy
		if c.registry == nil {
			c.registry = p.registry
		}
		p.registry = c.registry
		p.content = fronttest.Content(t, 1, c.registry.Upstream("team"))
		p.clients, p.health = p.cfg.Listen, p.cfg.Health
		host, _, _ := net.SplitHostPort(p.cfg.Listen)
		p.content["tls.crt"], p.content["tls.key"] = c.leaf("registry.d8-system.svc", host)
		c.stores, c.endpoints = append(c.stores, p), append(c.endpoints, p.cfg.Listen)
	}
	for _, p := range c.stores {
		p.content[peer.Key] = c.file(p.cfg.Listen)
	}
	return c
}

func (c *trio) leaf(names ...string) (certificate, key []byte) {
	c.t.Helper()
	leaf, _, err := pki.EnsureLeaf(time.Now(), c.ca, pki.KeyPair{}, names)
	if err != nil {
		c.t.Fatal(err)
	}
	return []byte(leaf.Cert), []byte(leaf.Key)
}

// file says who the stores are.
func (c *trio) file(self string) []byte {
	c.t.Helper()
	data, err := json.Marshal(peer.Stores{Self: self, Endpoints: c.endpoints, CA: c.ca.Cert})
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

func (c *trio) launch(all ...*process) {
	c.t.Helper()
	for _, p := range all {
		fronttest.WriteFiles(c.t, p.cfg.ConfigDir, p.content)
		p.launch()
		p.becomesReady()
	}
}

// sent is what the registry sent of a blob, but for what it said of tokens.
func (c *trio) sent(digest string) (bytes int64, requests int) {
	for _, q := range c.registry.Requests() {
		if q.Digest == digest && q.Status < http.StatusBadRequest {
			bytes, requests = bytes+q.Bytes, requests+1
		}
	}
	return bytes, requests
}

// of are the stores in the order in which they are asked for a digest.
func (c *trio) of(digest string) (all []*process) {
	for _, endpoint := range owner.Of(digest, c.endpoints) {
		all = append(all, c.stores[slices.Index(c.endpoints, endpoint)])
	}
	return all
}

// pull has that many clients pull at once, each from another store than the one before.
func (c *trio) pull(clients int, parts int64, tag string, from ...*process) {
	c.t.Helper()
	var all sync.WaitGroup
	for i := range clients {
		client := from[i%len(from)].client(parts)
		all.Go(func() {
			if err := client.pull(c.t.Context(), tool, tag); err != nil {
				c.t.Errorf("client %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// TestThreeStoresFetchOnce: 64 nodes that have nothing ask three stores that have nothing, and
// the registry sends each layer once. Stores that know nothing of each other are the control.
func TestThreeStoresFetchOnce(t *testing.T) { // nothing beside it: 64 clients are enough for any machine
	for name, times := range map[string]int64{"together": 1, "alone": 3} {
		t.Run(name, func(t *testing.T) {
			c := three(t)
			for _, p := range c.stores {
				if name == "alone" {
					delete(p.content, peer.Key)
				}
			}
			c.launch(c.stores...)
			image := c.stores[0].push("v1", 3, 2<<20)
			c.pull(64, 1, "v1", c.stores...)
			for _, layer := range image.layers {
				if got, n := c.sent(layer.digest); got != times*layer.size || int64(n) > 4*times {
					t.Errorf("%d bytes in %d requests of a layer of %d", got, n, layer.size)
				}
			}
			if name == "alone" {
				return
			}
			c.registry.Stop()
			c.pull(6, 4, "v1", c.stores...)
			for _, p := range c.stores {
				if s := p.status(); s.Problem != "" || s.Stored.Blobs < 5 {
					t.Errorf("%+v, %+v", s, s.Stored)
				}
			}
		})
	}
}

// TestThreeStoresFetchPartsOnce: what nodes ask for in four parts at a time is read once too, in no
// more requests. What was on its way when an answer is ended, because another one brings the rest, is
// sent for nothing.
func TestThreeStoresFetchPartsOnce(t *testing.T) { // nothing beside it either
	c := three(t)
	c.launch(c.stores...)
	image := c.stores[0].push("v1", 1, 32<<20)
	c.pull(12, 4, "v1", c.stores...)
	layer, read := image.layers[0], int64(0)
	for _, p := range c.stores {
		read += p.fetched() - p.counted("registry_store_peer_bytes_total")
	}
	sent, requests := c.sent(layer.digest)
	t.Logf("%d bytes of %d were sent in %d requests, %d read", sent, layer.size, requests, read)
	if most := layer.size + image.config + 3*image.manifest; read > most || requests > 4 {
		t.Errorf("%d bytes of %d were read, %d sent in %d requests", read, most, sent, requests)
	}
}

// asStore is a client with the certificate of a store.
func (c *trio) asStore(of, to *process, certificate, key []byte) *client {
	c.t.Helper()
	client := to.client(1, []byte(c.ca.Cert))
	if of != nil {
		certificate, key = of.content["tls.crt"], of.content["tls.key"]
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		c.t.Fatal(err)
	}
	client.http.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	return client
}

// hop asks as stores ask each other. It is 0 where nobody answered.
func (c *client) hop(ctx context.Context, path, password string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?ns=registry.d8-system.svc:5001", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set(oci.HeaderHop, "1")
	if password != "" {
		req.SetBasicAuth("node", password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// TestAHopIsTheLast: what another store asks for is asked of the registry, and of no third store.
// What a node asks for is, and the owner has the next one copy it.
func TestAHopIsTheLast(t *testing.T) {
	t.Parallel()
	c := three(t)
	c.launch(c.stores...)
	for _, tc := range []struct {
		tag  string
		hop  bool
		have []int
	}{{"hop", true, []int{0, 0, 1}}, {"pull", false, []int{1, 1, 1}}} {
		layer := c.stores[0].push(tc.tag, 1, 100_000).layers[0]
		order := c.of(layer.digest)
		var before []int
		for _, p := range order {
			before = append(before, p.status().Stored.Blobs)
		}
		path := tool + "/blobs/" + layer.digest
		if tc.hop {
			if got, err := c.asStore(order[0], order[2], nil, nil).hop(t.Context(), path, ""); err != nil || got != http.StatusOK {
				t.Fatalf("%d, %v", got, err)
			}
		} else if _, err := order[2].client(1).get(t.Context(), path, ""); err != nil {
			t.Fatal(err)
		}
		for i, p := range slices.Backward(order) { // when the last one has it, so has whoever was asked for it
			eventually(t, fmt.Sprintf("%s: store %d has %d more", tc.tag, i, tc.have[i]), func() bool {
				on := p.status().Stored
				return on.Blobs == before[i]+tc.have[i] && on.Coming == 0
			})
		}
		if got, _ := c.sent(layer.digest); got != layer.size {
			t.Errorf("%s: %d bytes of %d", tc.tag, got, layer.size)
		}
	}
}

// TestStoresThatAreMistaken: each of two takes the other one for the owner, and itself for another
// one. They wait for each other for a moment, and nobody fails.
func TestStoresThatAreMistaken(t *testing.T) {
	t.Parallel()
	c := three(t)
	layer := c.stores[0].push("v1", 1, 1<<20).layers[0]
	nobody := ""
	for i := 0; nobody == ""; i++ { // after all others
		name := fmt.Sprintf("127.255.%d.%d:1", i/250+1, i%250+1)
		if all := owner.Of(layer.digest, append([]string{name}, c.endpoints...)); all[3] == name {
			nobody = name
		}
	}
	for _, p := range c.stores {
		p.cfg.hop = time.Second
		p.content[peer.Key] = c.file(nobody)
	}
	c.launch(c.stores...)
	begun := time.Now()
	c.pull(6, 1, "v1", c.stores...)
	if got := c.registry.Bytes(layer.digest); got > 3*layer.size {
		t.Errorf("%d bytes of %d", got, layer.size)
	}
	t.Logf("%d bytes of %d in %s", c.registry.Bytes(layer.digest), layer.size, time.Since(begun))
}

// TestWhoIsNoStore gets no hop: neither without a certificate, nor with one of another CA, nor with
// one that is no store's. With the password of a node it is a node.
func TestWhoIsNoStore(t *testing.T) {
	t.Parallel()
	c := three(t)
	c.launch(c.stores...)
	layer := c.stores[0].push("v1", 1, 100_000).layers[0]
	order, path := c.of(layer.digest), tool+"/blobs/"+layer.digest
	last := order[2]
	host, _, _ := net.SplitHostPort(order[0].clients)
	own, ownKey := c.leaf("registry.d8-system.svc")
	foreign, foreignKey := (&trio{t: t, ca: three(t).ca}).leaf(host)
	for name, client := range map[string]*client{
		"nothing": last.client(1), "the proxy's": c.asStore(nil, last, own, ownKey), "another CA": c.asStore(nil, last, foreign, foreignKey),
		"itself": c.asStore(last, last, nil, nil),
	} {
		if got, err := client.hop(t.Context(), path, ""); err != nil || got != http.StatusUnauthorized {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	if got := c.registry.Bytes(layer.digest); got != 0 {
		t.Errorf("%d bytes were fetched for strangers", got)
	}
	before := order[0].status().Stored.Blobs
	if got, err := last.client(1).hop(t.Context(), path, fronttest.NodePassword); err != nil || got != http.StatusOK {
		t.Errorf("a node that says it is a store: %d, %v", got, err)
	}
	eventually(t, "the owner was asked for a node", func() bool { return order[0].status().Stored.Blobs == before+1 })
}

// TestARegistrySpeaksForItself: what one says of who was asked is neither believed nor passed on.
func TestARegistrySpeaksForItself(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	other := testregistry.New(t, testregistry.Options{TLS: true})
	p.content = fronttest.Content(t, 1, other.Upstream("team"), p.registry.Upstream("team"))
	fronttest.WriteFiles(t, p.cfg.ConfigDir, p.content)
	p.launch()
	p.becomesReady()
	get := func(digest string) (int, string) {
		resp, err := p.client(1).do(t.Context(), http.MethodGet, tool+"/blobs/"+digest, "")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header.Get(oci.HeaderAsked)
	}
	_, both := get("sha256:" + strings.Repeat("1", 64))
	if len(strings.Fields(both)) != 2 {
		t.Fatalf("asked %q", both)
	}
	other.SetFaults(testregistry.Faults{Header: http.Header{oci.HeaderAsked: {both + " and-more"}}})
	layer := p.push("v1", 1, 1000).layers[0]
	if status, asked := get(layer.digest); status != http.StatusOK || asked != "" {
		t.Errorf("the other one has it: %d, asked %q", status, asked)
	}
	if status, asked := get("sha256:" + strings.Repeat("2", 64)); status != http.StatusNotFound || asked != both {
		t.Errorf("%d, asked %q", status, asked)
	}
}

// TestAStoreSaysWhoHasItNot: a 404 names the registries that were asked, so that who asked need not
// ask them again.
func TestAStoreSaysWhoHasItNot(t *testing.T) {
	t.Parallel()
	c := three(t)
	c.launch(c.stores...)
	digest := "sha256:" + strings.Repeat("1", 64)
	order, path := c.of(digest), tool+"/blobs/"+digest
	asked := func() int {
		return c.registry.Count(func(q testregistry.Request) bool {
			return strings.HasSuffix(q.Path, digest) && q.Status == http.StatusNotFound
		})
	}
	for i, p := range []*process{order[1], order[2], order[0]} {
		resp, err := p.client(1).do(t.Context(), http.MethodGet, path, "")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get(oci.HeaderAsked); resp.StatusCode != http.StatusNotFound || len(got) != 16 {
			t.Errorf("%s: asked %q", resp.Status, got)
		}
		if n := asked(); n != 1 {
			t.Errorf("after %d stores the registry was asked %d times", i+1, n)
		}
	}
}
