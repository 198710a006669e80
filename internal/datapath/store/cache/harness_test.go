package cache

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

const (
	ns   = "ns=registry.d8-system.svc%3A5001"
	repo = "system/deckhouse/tool"
)

// system is a data path with a cache in front of real registries.
type system struct {
	t      testing.TB
	folder string
	cfg    Config
	table  *routes.Table
	cache  *Cache
	server *httptest.Server
	client *http.Client
	reg    *prometheus.Registry
}

func start(t testing.TB, cfg Config, upstreams ...upstream.Upstream) *system {
	t.Helper()
	s := &system{t: t, folder: t.TempDir(), cfg: cfg, table: routes.NewTable(nil), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	t.Cleanup(s.table.Close)
	s.swap(1, upstreams...)
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *system) swap(generation int64, upstreams ...upstream.Upstream) {
	s.t.Helper()
	err := s.table.Swap(layout.Layout{
		Schema: layout.Schema, Generation: generation,
		Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) open() {
	s.t.Helper()
	cfg := s.cfg
	if cfg.FS == nil {
		folder, err := disk.OpenFolder(s.folder)
		if err != nil {
			s.t.Fatal(err)
		}
		cfg.FS = folder
	}
	if cfg.Quota == 0 {
		cfg.Quota = 1 << 30
	}
	s.reg = prometheus.NewRegistry()
	metrics, err := NewMetrics(s.reg)
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.Metrics, cfg.Boot = metrics, "boot"
	s.cache, err = Open(s.t.Context(), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = httptest.NewServer(proxy.New(s.table, proxy.Config{Cache: s.cache.Transport, Log: cfg.Log, Downloads: 1000}))
}

// close ends the process; the folder stays.
func (s *system) close() {
	if s.server == nil {
		return
	}
	s.client.CloseIdleConnections()
	s.server.Close()
	if err := s.cache.Close(); err != nil {
		s.t.Error(err)
	}
	s.server = nil
}

func (s *system) restart() {
	s.close()
	s.open()
}

type reply struct {
	status int
	header http.Header
	body   []byte
	err    error
	took   time.Duration
}

func (s *system) get(path string, header ...string) reply {
	return s.do(http.MethodGet, path, header...)
}

func (s *system) do(method, path string, header ...string) reply {
	return ask(s.t, s.client, method, s.server.URL+path, header...)
}

func ask(t testing.TB, client *http.Client, method, url string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	begin := time.Now()
	resp, err := client.Do(req)
	if err != nil { // also an answer that is broken off before its header is sent
		return reply{err: err, took: time.Since(begin)}
	}
	defer func() { _ = resp.Body.Close() }()
	r := reply{status: resp.StatusCode, header: resp.Header}
	r.body, r.err = io.ReadAll(resp.Body)
	r.took = time.Since(begin)
	return r
}

// together has many ask at once.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

func (s *system) wantBlob(r reply, content []byte) {
	s.t.Helper()
	if r.status != http.StatusOK || r.err != nil || !bytes.Equal(r.body, content) {
		s.t.Errorf("%d, %d bytes, %v; want %d bytes", r.status, len(r.body), r.err, len(content))
	}
}

// metric is the value of a counter with that label, of all if it is "".
func (s *system) metric(name, label string) (sum float64) {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range append(m.GetLabel(), nil) {
				if f.GetName() == name && (l == nil && label == "" || l != nil && l.GetValue() == label) {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

func blobPath(digest string) string  { return "/v2/" + repo + "/blobs/" + digest + "?" + ns }
func manifestPath(ref string) string { return "/v2/" + repo + "/manifests/" + ref + "?" + ns }

// image has layers of random bytes.
func image(t testing.TB, layers, size int) v1.Image {
	t.Helper()
	var all []v1.Layer
	for range layers {
		data := make([]byte, size)
		if _, err := rand.Read(data); err != nil {
			t.Fatal(err)
		}
		all = append(all, static.NewLayer(data, types.OCIUncompressedLayer))
	}
	img, err := mutate.AppendLayers(empty.Image, all...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// content is the digest and the bytes of a layer.
func content(t testing.TB, img v1.Image, n int) (digest string, data []byte) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := layers[n].Digest()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[n].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rc.Close() }()
	if data, err = io.ReadAll(rc); err != nil {
		t.Fatal(err)
	}
	return hash.String(), data
}

func digestOf(t testing.TB, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// one is a registry with an image of two layers.
func one(t testing.TB, size int) (*testregistry.Registry, v1.Image) {
	t.Helper()
	r := testregistry.New(t, testregistry.Options{TLS: true, Username: "u", Password: "p", Bearer: true})
	img := image(t, 2, size)
	r.Push(t, "team/tool", "v1", img)
	return r, img
}

func bytesOf(from, to int) string { return fmt.Sprintf("bytes=%d-%d", from, to) }

// wait is for what only time brings.
func wait(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// stored waits until a blob is on disk: nobody else does.
func (s *system) stored(digest string) {
	s.t.Helper()
	for begin := time.Now(); ; wait(s.t, time.Millisecond) {
		if _, whole := s.cache.blobs.Stat(digest); whole {
			return
		}
		if time.Since(begin) > 20*time.Second {
			s.t.Fatalf("%s was never stored", digest)
		}
	}
}
