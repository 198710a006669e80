package proxy

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
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

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

const (
	fixedHost = "registry.d8-system.svc:5001"
	ns        = "ns=registry.d8-system.svc%3A5001"
	repo      = "system/deckhouse/tool"

	someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// system is a data path on a real socket before real registries.
type system struct {
	t      *testing.T
	table  *routes.Table
	server *httptest.Server
	log    *syncBuffer
	reg    *prometheus.Registry

	metrics *Metrics
}

// start routes the fixed address to the upstreams, in that order.
func start(t *testing.T, cfg Config, upstreams ...upstream.Upstream) *system {
	t.Helper()
	s := &system{t: t, log: &syncBuffer{}, reg: prometheus.NewRegistry()}
	metrics, err := NewMetrics(s.reg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Metrics, s.metrics = metrics, metrics
	cfg.Log = slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.table = routes.NewTable(metrics)
	t.Cleanup(s.table.Close)
	if len(upstreams) > 0 {
		s.swap(1, upstreams...)
	}
	s.server = httptest.NewServer(New(s.table, cfg))
	t.Cleanup(s.server.Close)
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

// logged is the log once every request is through: its line comes after the
// client has its answer. Nothing can be asked afterwards.
func (s *system) logged() string {
	s.server.Close()
	return s.log.String()
}

type reply struct {
	status int
	header http.Header
	body   []byte
	err    error // of reading the body
	took   time.Duration
}

func (s *system) get(path string, header ...string) reply {
	return s.do(http.MethodGet, path, header...)
}

func (s *system) do(method, path string, header ...string) reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	begin := time.Now()
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	a := reply{status: resp.StatusCode, header: resp.Header}
	a.body, a.err = io.ReadAll(resp.Body)
	a.took = time.Since(begin)
	return a
}

// errors are the OCI errors of an answer; it is an error of the test if there
// are none.
func (a reply) errors(t *testing.T) []oci.ErrorEntry {
	t.Helper()
	var body oci.ErrorBody
	if err := json.Unmarshal(a.body, &body); err != nil || len(body.Errors) == 0 {
		t.Fatalf("%d: not an OCI error: %q", a.status, a.body)
	}
	return body.Errors
}

func wantStatus(t *testing.T, a reply, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %.300q", a.status, status, a.body)
	}
}

// blob is the content and digest of an image's first layer.
func blob(t *testing.T, img v1.Image) (digest string, content []byte) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rc.Close() }()
	content, err = io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return hash.String(), content
}

// anImage is made once, of layers that are not compressed: compressing is what
// these tests would spend their time with.
var anImage = sync.OnceValues(func() (v1.Image, error) {
	var layers []v1.Layer
	for range 2 {
		data := make([]byte, 300_000)
		if _, err := rand.Read(data); err != nil {
			return nil, err
		}
		layers = append(layers, static.NewLayer(data, types.OCIUncompressedLayer))
	}
	return mutate.AppendLayers(empty.Image, layers...)
})

// pair are two registries with the same image below different paths.
func pair(t *testing.T, o testregistry.Options) (a, b *testregistry.Registry, img v1.Image) {
	t.Helper()
	a, b = testregistry.New(t, o), testregistry.New(t, o)
	img, err := anImage()
	if err != nil {
		t.Fatal(err)
	}
	a.Push(t, "team/a/tool", "v1", img)
	b.Push(t, "team/b/tool", "v1", img)
	return a, b, img
}

func blobPath(digest string) string { return "/v2/" + repo + "/blobs/" + digest + "?" + ns }

const manifestPath = "/v2/" + repo + "/manifests/v1?" + ns

func wantBlob(t *testing.T, a reply, content []byte) {
	t.Helper()
	wantStatus(t, a, http.StatusOK)
	if a.err != nil || !bytes.Equal(a.body, content) {
		t.Fatalf("body of %d bytes, error %v; want %d bytes", len(a.body), a.err, len(content))
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
