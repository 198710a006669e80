package registries

import (
	"bytes"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// content is what is pulled.
type content struct {
	index    v1.ImageIndex // for amd64 and arm64
	artifact v1.Image      // that refers to the index
	layer    []byte        // of the artifact
}

// someContent is made once: no test changes it.
var someContent = sync.OnceValues(func() (content, error) {
	var c content
	c.index = empty.Index
	for _, architecture := range []string{"amd64", "arm64"} {
		img, _, err := image(types.OCIConfigJSON)
		if err != nil {
			return c, err
		}
		c.index = mutate.AppendManifests(c.index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	subject, err := partial.Descriptor(c.index)
	if err != nil {
		return c, err
	}
	artifact, layer, err := image("application/vnd.example.config.v1+json")
	if err != nil {
		return c, err
	}
	c.artifact, c.layer = mutate.Subject(artifact, *subject).(v1.Image), layer //nolint:forcetypeassert // of an image it is one
	return c, nil
})

func image(config types.MediaType) (v1.Image, []byte, error) {
	layer := make([]byte, 100_000)
	if _, err := rand.Read(layer); err != nil {
		return nil, nil, err
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(layer, types.OCIUncompressedLayer))
	return mutate.ConfigMediaType(img, config), layer, err
}

func theContent(t *testing.T) content {
	t.Helper()
	c, err := someContent()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// front is our data path on a socket, before some registries.
type front struct {
	t      *testing.T
	server *httptest.Server
}

const repository = "system/deckhouse/tool"

func newFront(t *testing.T, upstreams ...upstream.Upstream) front {
	t.Helper()
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	err := table.Swap(layout.Layout{Schema: layout.Schema, Generation: 1, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(proxy.New(table, proxy.Config{DefaultHost: layout.Fixed().Host, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(server.Close)
	return front{t, server}
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (f front) do(method, path string, header ...string) answer {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.server.URL+"/v2/"+repository+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header["Accept"] = judge.Accept()
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := f.server.Client().Transport.RoundTrip(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	for _, name := range []string{"Location", "Set-Cookie", "Www-Authenticate"} {
		if v := resp.Header.Get(name); v != "" {
			f.t.Errorf("%s %s: the client gets %s: %s", method, path, name, v)
		}
	}
	return answer{resp.StatusCode, resp.Header, body}
}

// wants checks an answer's status and, unless nil, its body.
func (f front) wants(status int, body []byte, method, path string, header ...string) answer {
	f.t.Helper()
	got := f.do(method, path, header...)
	if got.status != status || body != nil && !bytes.Equal(got.body, body) {
		f.t.Errorf("%s %s: %d with %d bytes, want %d with %d: %.200q", method, path, got.status, len(got.body), status, len(body), got.body)
	}
	return got
}
