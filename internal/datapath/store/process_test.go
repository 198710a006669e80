package store

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/store/status"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

const tool = "system/deckhouse/tool"

// process is a store that runs, and the registry that it asks.
type process struct {
	t               *testing.T
	cfg             Config
	registry        *testregistry.Registry
	content         map[string][]byte
	clients, health string
	stop            context.CancelFunc
	ended           chan error
}

// newProcess has nothing yet that a store needs.
func newProcess(t *testing.T) *process {
	t.Helper()
	p := &process{t: t, registry: testregistry.New(t, testregistry.Options{TLS: true, Username: "up", Password: "upstream-secret", Bearer: true})}
	p.content = fronttest.Content(t, 1, p.registry.Upstream("team"))
	p.cfg = Config{
		ConfigDir: t.TempDir(), Data: t.TempDir(), Version: "v1", Listen: "127.0.0.1:0", Health: "127.0.0.1:0",
		Quota: 1 << 30, Floor: 0, TagFresh: time.Millisecond, Drain: 10 * time.Second, retry: 50 * time.Millisecond,
	}
	return p
}

// launch runs it until the test ends, or stop is called.
func (p *process) launch() {
	t := p.t
	t.Helper()
	at := make(chan [2]string, 1)
	cfg := p.cfg
	cfg.listening = func(clients, health string) { at <- [2]string{clients, health} }
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	p.stop, p.ended = stop, ended
	go func() { ended <- Run(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	select {
	case addresses := <-at:
		p.clients, p.health = addresses[0], addresses[1]
	case err := <-ended:
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(stop, ended) })
}

func (p *process) end(stop context.CancelFunc, ended chan error) {
	stop()
	select {
	case err := <-ended:
		if err != nil {
			p.t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		p.t.Error("it does not end")
	}
	ended <- nil // for the test's end
	loopback.Freed(p.clients)
	loopback.Freed(p.health)
}

func start(t *testing.T, change func(*Config)) *process {
	t.Helper()
	p := newProcess(t)
	if change != nil {
		change(&p.cfg)
	}
	fronttest.WriteFiles(t, p.cfg.ConfigDir, p.content)
	p.launch()
	p.becomesReady()
	return p
}

// pushed is an image of the tool.
type pushed struct {
	digest           string
	manifest, config int64 // bytes
	layers           []pushedLayer
}

type pushedLayer struct {
	digest string
	size   int64
}

func (l pushedLayer) hex() string { return strings.TrimPrefix(l.digest, "sha256:") }

func (p *process) push(tag string, layers, size int) (out pushed) {
	p.t.Helper()
	image := p.registry.PushRandom(p.t, "team/tool", tag, layers, size)
	digest, err := image.Digest()
	if err != nil {
		p.t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		p.t.Fatal(err)
	}
	out.digest, out.config = digest.String(), manifest.Config.Size
	if out.manifest, err = image.Size(); err != nil {
		p.t.Fatal(err)
	}
	for _, l := range manifest.Layers {
		out.layers = append(out.layers, pushedLayer{l.Digest.String(), l.Size})
	}
	return out
}

func (p *process) becomesReady() {
	p.t.Helper()
	eventually(p.t, "ready", func() bool { code, _ := p.ask("/readyz"); return code == http.StatusOK })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// ask is for the port of health.
func (p *process) ask(path string) (int, string) { return ask(p.t, "http://"+p.health+path) }

func ask(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (p *process) status() (s status.Store) {
	p.t.Helper()
	if code, body := p.ask("/status"); code != http.StatusOK || json.Unmarshal([]byte(body), &s) != nil {
		p.t.Fatalf("%d %s", code, body)
	}
	return s
}

// fetched is how many bytes came to be kept, from the registry and from other stores.
func (p *process) fetched() int64 { return p.counted("registry_store_upstream_bytes_total") }

// counted is the value of a metric without labels.
func (p *process) counted(name string) int64 {
	p.t.Helper()
	_, metrics := p.ask("/metrics")
	_, value, found := strings.Cut(metrics, "\n"+name+" ")
	value, _, _ = strings.Cut(value, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if !found || err != nil {
		p.t.Fatalf("%s is %q", name, value)
	}
	return int64(n)
}

// client pulls as containerd does: a tag's digest, its manifest, and each layer in parts.
type client struct {
	http     *http.Client
	base     string
	password func() string
	parts    int64
}

func (p *process) client(parts int64, certificates ...[]byte) *client {
	c := newClient(p.clients, parts, append(certificates, p.content["tls.crt"])...)
	p.t.Cleanup(c.http.CloseIdleConnections)
	return c
}

func newClient(address string, parts int64, certificates ...[]byte) *client {
	roots := x509.NewCertPool()
	for _, certificate := range certificates {
		roots.AppendCertsFromPEM(certificate)
	}
	transport := &http.Transport{DialContext: loopback.Client().DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: "registry.d8-system.svc"}}
	return &client{
		http: &http.Client{Transport: transport}, base: "https://" + address + "/v2/",
		password: func() string { return fronttest.NodePassword }, parts: parts,
	}
}

func (c *client) do(ctx context.Context, method, path, span string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("node", c.password())
	if span != "" {
		req.Header.Set("Range", span)
	}
	return c.http.Do(req)
}

func (c *client) get(ctx context.Context, path, span string) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, path, span)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s %s", path, resp.Status, body)
	}
	return body, err
}

func (c *client) pull(ctx context.Context, repository, tag string) error {
	resp, err := c.do(ctx, http.MethodHead, repository+"/manifests/"+tag, "")
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	digest := resp.Header.Get("Docker-Content-Digest")
	if resp.StatusCode != http.StatusOK || digest == "" {
		return fmt.Errorf("HEAD %s: %s %q", tag, resp.Status, digest)
	}
	data, err := c.get(ctx, repository+"/manifests/"+digest, "")
	if err != nil {
		return err
	}
	manifest, err := v1.ParseManifest(strings.NewReader(string(data)))
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	failed := make([]error, len(manifest.Layers)+1)
	for i, blob := range append(manifest.Layers, manifest.Config) {
		all.Go(func() { failed[i] = c.blob(ctx, repository+"/blobs/"+blob.Digest.String(), blob) })
	}
	all.Wait()
	return errors.Join(failed...)
}

func (c *client) blob(ctx context.Context, path string, blob v1.Descriptor) error {
	data := make([]byte, blob.Size)
	part := max(blob.Size/c.parts, 1)
	var all sync.WaitGroup
	failed := make([]error, c.parts)
	for i := range c.parts {
		from, to := i*part, (i+1)*part
		if i == c.parts-1 {
			to = blob.Size
		}
		if from >= to {
			continue
		}
		span := fmt.Sprintf("bytes=%d-%d", from, to-1)
		if c.parts == 1 {
			span = "" // only then it is known to be the whole, whatever size is said
		}
		all.Go(func() {
			got, err := c.get(ctx, path, span)
			if err == nil && copy(data[from:to], got) != int(to-from) {
				err = fmt.Errorf("%d bytes instead of %d", len(got), to-from)
			}
			failed[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); got != blob.Digest.String() {
		return fmt.Errorf("%s instead of %s", got, blob.Digest)
	}
	return nil
}

func TestStatusIsForThisMachine(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]int{"10.0.0.7:1234": http.StatusForbidden, "[2001:db8::1]:1": http.StatusForbidden, "": http.StatusForbidden} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/status", nil)
		req.RemoteAddr = remote
		(&statusPage{}).ServeHTTP(w, req)
		if w.Code != want {
			t.Errorf("%q: %d", remote, w.Code)
		}
	}
}

// leftOver is what is still coming, on disk.
func leftOver(t *testing.T, data string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "partial", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}
