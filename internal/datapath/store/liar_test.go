package store

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

// fake listens in place of a store, with its certificate.
func (c *trio) fake(in *process, answer http.HandlerFunc) {
	c.t.Helper()
	pair, err := tls.X509KeyPair(in.content["tls.crt"], in.content["tls.key"])
	if err != nil {
		c.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(answer)
	_ = s.Listener.Close()
	if s.Listener, err = new(net.ListenConfig).Listen(c.t.Context(), "tcp", in.clients); err != nil {
		c.t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	c.t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
}

// TestAStoreThatLies has a good certificate, and gives what it wants. Nobody gets a whole layer, or a
// manifest, of wrong bytes; whoever is cut gets the right ones with the next try.
func TestAStoreThatLies(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	zeroes := bytes.Repeat([]byte{0}, 2*size)
	for name, answer := range map[string]func(w http.ResponseWriter, length int64){
		"other bytes": func(w http.ResponseWriter, n int64) {
			w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
			_, _ = w.Write(zeroes[:n])
		},
		"fewer bytes": func(w http.ResponseWriter, _ int64) { _, _ = w.Write(zeroes[:1000]) },
		"more bytes":  func(w http.ResponseWriter, _ int64) { _, _ = w.Write(zeroes) },
		"no size": func(w http.ResponseWriter, _ int64) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(zeroes[:size/2])
		},
		"half of a part that is too large": func(w http.ResponseWriter, _ int64) {
			w.Header().Set("Content-Range", "bytes 0-2097151/2097152")
			w.Header().Set("Content-Length", "2097152")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(zeroes[:size/2])
		},
		"a size beyond": func(w http.ResponseWriter, _ int64) { w.Header().Set("Content-Length", "9223372036854775807") },
		"an error":      func(w http.ResponseWriter, _ int64) { w.WriteHeader(http.StatusInternalServerError) },
		"a refusal":     func(w http.ResponseWriter, _ int64) { w.WriteHeader(http.StatusUnauthorized) },
		"a limit": func(w http.ResponseWriter, _ int64) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"nothing": func(w http.ResponseWriter, _ int64) { w.WriteHeader(http.StatusNotFound) },
		"a page":  func(w http.ResponseWriter, _ int64) { testregistry.WebPage(w, nil) },
		"elsewhere": func(w http.ResponseWriter, _ int64) {
			w.Header().Set("Location", "http://169.254.169.254/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := three(t)
			image := c.stores[0].push("v1", 1, size)
			layer := image.layers[0]
			order := c.of(layer.digest)
			c.fake(order[0], func(w http.ResponseWriter, r *http.Request) {
				length := layer.size
				if strings.Contains(r.URL.Path, "/manifests/") {
					length = image.manifest
				}
				answer(w, length)
			})
			c.launch(order[1:]...)
			for i, p := range order[1:] {
				client := p.client(1)
				for try := 0; ; try++ { // a layer and a configuration may each be its
					err := client.pull(t.Context(), tool, "v1")
					if err == nil {
						break
					}
					t.Logf("store %d: %v", i, err)
					if strings.Contains(err.Error(), "instead of") {
						t.Errorf("store %d: wrong bytes as a whole: %v", i, err)
					}
					if try == 2 {
						t.Fatalf("store %d: %v", i, err)
					}
				}
			}
		})
	}
}

// TestASilentStore takes connections and says nothing: it costs each of the others a moment once, and
// what is not there is still said to be not there.
func TestASilentStore(t *testing.T) {
	t.Parallel()
	c := three(t)
	digest := func(n string) string { return "sha256:" + strings.Repeat(n, 64) }
	order := c.of(digest("1"))
	c.fake(order[0], func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	asking := order[2]
	asking.cfg.hop = 300 * time.Millisecond
	c.launch(order[1:]...)
	asked := 0
	for _, n := range strings.Split("1234567890abcdef", "") {
		all := c.of(digest(n))
		if all[0] != order[0] || all[2] != asking {
			continue // others are asked first, or nobody
		}
		begun := time.Now()
		resp, err := asking.client(1).do(t.Context(), http.MethodGet, tool+"/blobs/"+digest(n), "")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		took := time.Since(begun)
		t.Logf("%s after %s", resp.Status, took)
		if resp.StatusCode != http.StatusNotFound || took > 3*time.Second {
			t.Errorf("%s after %s", resp.Status, took)
		}
		asked++
	}
	if asked == 0 {
		t.Error("nobody was asked")
	}
}

// TestATagThatMoved: what a tag means is learned of the registry that says so, also where its manifest
// is another store's.
func TestATagThatMoved(t *testing.T) {
	t.Parallel()
	c := three(t)
	c.launch(c.stores...)
	next := c.registry.PushRandom(t, "team/tool", "next", 1, 1000)
	digest, err := next.Digest()
	if err != nil {
		t.Fatal(err)
	}
	c.stores[0].push("v1", 1, 1000)
	last := c.of(digest.String())[2]
	means := func() string {
		resp, err := last.client(1).do(t.Context(), http.MethodGet, tool+"/manifests/v1", "")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.Header.Get("Docker-Content-Digest")
	}
	if means() == digest.String() {
		t.Fatal("it means the next one already")
	}
	c.registry.Push(t, "team/tool", "v1", next)
	eventually(t, "it means the next one", func() bool { return means() == digest.String() })
	c.registry.Stop()
	for range 20 { // the answer of before is not fresh any more
		if got := means(); got != digest.String() {
			t.Fatalf("without the registry it means %s", got)
		}
	}
}

// TestASlowRegistry takes longer to a header than a store may take to answer anything: a store that
// waits for it is alive, and the others wait for that one.
func TestASlowRegistry(t *testing.T) {
	t.Parallel()
	c := three(t)
	layer := c.stores[0].push("v1", 1, 1<<20).layers[0]
	c.registry.SetFaults(testregistry.Faults{Match: isOf(layer), Latency: 3 * time.Second})
	for _, p := range c.stores {
		p.cfg.hop = 1500 * time.Millisecond
	}
	c.launch(c.stores...)
	c.pull(9, 1, "v1", c.stores...)
	if sent, requests := c.sent(layer.digest); sent != layer.size || requests != 1 {
		t.Errorf("%d bytes of %d in %d requests", sent, layer.size, requests)
	}
}
