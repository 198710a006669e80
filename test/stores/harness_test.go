package stores

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/fronts"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

var server apiserver.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// world is three stores in front of one registry.
type world struct {
	*fronts.Stores
	t        *testing.T
	api      *apiserver.API
	registry *testregistry.Registry
}

// newWorld has stores that do not run yet.
func newWorld(t *testing.T) *world {
	t.Helper()
	registry := testregistry.New(t, testregistry.Options{TLS: true, Username: "up", Password: "of the registry", Bearer: true})
	return &world{
		t: t, api: server.Start(t), registry: registry,
		Stores: fronts.NewStores(t, fronts.StoreProgram(t), 3, registry.Upstream("team")),
	}
}

// layout is that of nodes: the stores, and the registry behind them unless there are others.
func (w *world) layout(registries ...upstream.Upstream) layout.Layout {
	if len(registries) == 0 {
		registries = append(registries, w.registry.Upstream("team"))
	}
	return w.Layout(registries...)
}

// nowhere is a registry that nobody reaches: stores are the only way.
func nowhere(t *testing.T) upstream.Upstream {
	t.Helper()
	return upstream.Upstream{Host: loopback.Address(t), Path: "team", Scheme: upstream.HTTPS}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// image is one in the registry.
type image struct {
	v1.Manifest
	digest string
}

func (w *world) push(tag string, layers, size int) image {
	w.t.Helper()
	img := w.registry.PushRandom(w.t, "team/tool", tag, layers, size)
	m, err := img.Manifest()
	if err != nil {
		w.t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		w.t.Fatal(err)
	}
	return image{*m, digest.String()}
}

// sent is what the registry sent of a blob.
func (w *world) sent(digest string) (bytes int64, requests int) {
	for _, q := range w.registry.Requests() {
		if q.Digest == digest && q.Status < http.StatusBadRequest {
			bytes, requests = bytes+q.Bytes, requests+1
		}
	}
	return bytes, requests
}

// client pulls as containerd does.
type client struct {
	front   *fronts.Front
	through http.RoundTripper
	pace    func(read int64) // is called with what came of a layer
}

func clientOf(t *testing.T, f *fronts.Front) *client {
	t.Helper()
	return &client{front: f, through: f.Transport(t), pace: func(int64) {}}
}

func (c *client) do(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.front.Address+"/v2/system/deckhouse/tool/"+path, nil)
	if err != nil {
		return nil, err
	}
	if c.front.Username != "" {
		req.SetBasicAuth(c.front.Username, c.front.Password)
	}
	resp, err := c.through.RoundTrip(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %s %s", method, path, resp.Status, body)
	}
	return resp, err
}

// errWhole is a whole answer of wrong bytes.
var errWhole = errors.New("wrong bytes as a whole")

// pull is an image by its tag: its digest, its manifest, and all blobs at once.
func (c *client) pull(ctx context.Context, tag string) error {
	resp, err := c.do(ctx, http.MethodHead, "manifests/"+tag)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	digest := resp.Header.Get("Docker-Content-Digest")
	data, err := c.content(ctx, "manifests/", digest)
	if err != nil {
		return err
	}
	m, err := v1.ParseManifest(strings.NewReader(string(data)))
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	failed := make([]error, len(m.Layers)+1)
	for i, blob := range append(m.Layers, m.Config) {
		all.Go(func() { _, failed[i] = c.content(ctx, "blobs/", blob.Digest.String()) })
	}
	all.Wait()
	return errors.Join(failed...)
}

func (c *client) content(ctx context.Context, kind, digest string) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, kind+digest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(paced{resp.Body, c.pace})
	if err != nil {
		return nil, fmt.Errorf("%s after %d bytes: %w", digest, len(data), err)
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); got != digest {
		return nil, fmt.Errorf("%w: %s for %s", errWhole, got, digest)
	}
	return data, nil
}

type paced struct {
	io.Reader
	pace func(int64)
}

func (p paced) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.pace(int64(n))
	return n, err
}

// together has all pull at once, and says how many failed.
func together(t *testing.T, tag string, clients ...*client) (failed int) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	for i, c := range clients {
		all.Go(func() {
			if err := c.pull(t.Context(), tag); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
				t.Logf("client %d: %v", i, err)
			}
		})
	}
	all.Wait()
	return failed
}
