package registries

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/realregistry"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestProducts: everything is pulled from each, and no credentials go where they should
// not.
func TestProducts(t *testing.T) {
	t.Parallel()
	for _, p := range testregistry.Products() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			fromDouble(t, p)
		})
	}
}

// TestManners: what no product of the page is known for, but some registry does.
func TestManners(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]testregistry.Options{
		"no digest in headers":       {Manner: testregistry.Manner{NoDigest: true}},
		"manifests are said JSON":    {Manner: testregistry.Manner{MediaType: "application/json"}},
		"says nothing of manifests":  {Bearer: true, Manner: testregistry.Manner{NoDigest: true, MediaType: "text/plain"}},
		"redirects within, 308":      {Bearer: true, Manner: testregistry.Manner{RedirectWithin: "/storage", RedirectHeads: true, RedirectStatus: http.StatusPermanentRedirect}},
		"redirects elsewhere, 301":   {RedirectBlobs: "127.0.0.1", Manner: testregistry.Manner{RedirectStatus: http.StatusMovedPermanently, RedirectHeads: true}},
		"tokens without a service":   {Username: "u", Password: "p", Bearer: true, Manner: testregistry.Manner{Service: testregistry.NoService, Basic: "Basic"}},
		"lies behind another path":   {Username: "u", Password: "p", Bearer: true, Inside: "/inside/docker/hub", InsideName: "hub/"},
		"another server has tokens":  {Username: "u", Password: "p", Bearer: true, Manner: testregistry.Manner{TokensElsewhere: true, Basic: `Basic realm="x"`}},
		"everybody, with a password": {Username: "", Manner: testregistry.Manner{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fromDouble(t, testregistry.Product{Name: name, Repository: "a/b", Options: o})
		})
	}
}

func fromDouble(t *testing.T, p testregistry.Product) {
	t.Helper()
	p.Options.TLS = true
	r, c := testregistry.New(t, p.Options), theContent(t)
	r.Push(t, p.Repository+"/tool", "v1", c.index)
	r.Push(t, p.Repository+"/tool", "artifact", c.artifact)
	pulled(t, r.Upstream(p.Repository), c, p.Options.Manner)
	if want := 1; p.Options.Bearer && r.TokenRequests() != want {
		t.Errorf("%d tokens for one repository", r.TokenRequests())
	}
	checked(t, r.Upstream(p.Repository))
	elsewhere := 0
	for _, req := range r.Requests() {
		authorization := req.Header.Get("Authorization")
		switch {
		case req.CDN:
			if elsewhere++; authorization != "" {
				t.Errorf("%s elsewhere was shown %.10s", req.Path, authorization)
			}
		case req.Token:
			if (authorization != "") != (p.Options.Username != "") || strings.HasPrefix(authorization, "Bearer") {
				t.Errorf("the token server was shown %.10q", authorization)
			}
		}
		if req.Header.Get("Cookie") != "" {
			t.Errorf("%s has a cookie", req.Path)
		}
	}
	if p.Options.RedirectBlobs != "" && elsewhere == 0 {
		t.Error("nothing was redirected")
	}
}

// TestDistribution is the same with distribution v3 itself.
func TestDistribution(t *testing.T) {
	t.Parallel()
	for _, bearer := range []bool{false, true} {
		r, c := realregistry.Start(t, bearer), theContent(t)
		r.Push(t, "deckhouse/ee/tool", "v1", c.index)
		r.Push(t, "deckhouse/ee/tool", "artifact", c.artifact)
		pulled(t, r.Upstream("deckhouse/ee"), c, double(t, "distribution").Options.Manner)
		checked(t, r.Upstream("deckhouse/ee"))
	}
}

func double(t *testing.T, name string) testregistry.Product {
	t.Helper()
	for _, p := range testregistry.Products() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("there is no double of %s", name)
	return testregistry.Product{}
}

// pulled pulls all of the content through the data path.
func pulled(t *testing.T, u upstream.Upstream, c content, m testregistry.Manner) {
	t.Helper()
	f := newFront(t, u)
	digest := must(c.index.Digest()).String()
	head := f.wants(http.StatusOK, nil, http.MethodHead, "/manifests/v1")
	if head.header.Get("Docker-Content-Digest") != digest || head.header.Get("Content-Type") != string(types.OCIImageIndex) {
		t.Errorf("HEAD of the tag says %v", head.header)
	}
	f.wants(http.StatusOK, must(c.index.RawManifest()), http.MethodGet, "/manifests/"+digest)
	ref, err := name.NewTag(strings.TrimPrefix(f.server.URL, "http://")+"/"+repository+":v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref, remote.WithContext(t.Context()), remote.WithTransport(f.server.Client().Transport))
	if err == nil {
		err = readAll(index)
	}
	if err != nil {
		t.Errorf("the index: %v", err)
	}
	f.wants(http.StatusOK, must(c.artifact.RawManifest()), http.MethodGet, "/manifests/artifact")
	layer := "/blobs/" + must(must(c.artifact.Layers())[0].Digest()).String()
	f.wants(http.StatusOK, nil, http.MethodHead, layer)
	f.wants(http.StatusOK, c.layer, http.MethodGet, layer)
	if m.NoRange {
		f.wants(http.StatusOK, c.layer, http.MethodGet, layer, "Range", "bytes=1000-1999")
	} else {
		f.wants(http.StatusPartialContent, c.layer[1000:2000], http.MethodGet, layer, "Range", "bytes=1000-1999")
		f.wants(http.StatusPartialContent, c.layer[99_000:], http.MethodGet, layer, "Range", "bytes=99000-")
	}
	if m.Referrers != 0 {
		f.wants(http.StatusNotFound, nil, http.MethodGet, "/referrers/"+digest)
	} else if got := f.wants(http.StatusOK, nil, http.MethodGet, "/referrers/"+digest); !strings.Contains(string(got.body), must(c.artifact.Digest()).String()) {
		t.Errorf("the referrers are %s", got.body)
	}
	f.wants(http.StatusNotFound, nil, http.MethodGet, "/manifests/none")
}

// readAll reads an index to its last byte; its readers check each digest.
func readAll(index v1.ImageIndex) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, child := range manifest.Manifests {
		img, err := index.Image(child.Digest)
		if err != nil {
			return err
		}
		config, err := partial.ConfigLayer(img)
		if err != nil {
			return err
		}
		layers, err := img.Layers()
		if err != nil {
			return err
		}
		for _, layer := range append(layers, config) {
			body, err := layer.Compressed()
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, body)
			if err := errors.Join(err, body.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

// checked asks as the image check does.
func checked(t *testing.T, u upstream.Upstream) {
	t.Helper()
	r := asked(t, u)
	if err := r.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := r.Image(t.Context(), "tool:v1", []string{"amd64", "arm64"}); err != nil {
		t.Errorf("the image check: %v", err)
	}
	if err := r.Image(t.Context(), "tool:v1", []string{"riscv64"}); err == nil {
		t.Error("the image check found an image for riscv64")
	}
	if err := r.Image(t.Context(), "tool:none", nil); judge.Of(err) != judge.NotFound || err == nil {
		t.Errorf("the image check of what is not there: %v", err)
	}
}

func asked(t *testing.T, u upstream.Upstream) judge.Registry {
	t.Helper()
	tr, err := transport.New(u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return judge.Registry{Upstream: u, Transport: tr}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // of what is in memory
	}
	return v
}
