package containerd

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/containerd/v2/plugins/content/local"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/realregistry"
)

// path is our data path on a TLS socket, with the hosts directory by which
// containerd is pointed at it.
type path struct {
	table *routes.Table
	hosts string
}

func startPath(t *testing.T, upstreams ...upstream.Upstream) *path {
	t.Helper()
	p := &path{table: routes.NewTable(nil), hosts: t.TempDir()}
	t.Cleanup(p.table.Close)
	p.swap(t, 1, upstreams...)
	server := httptest.NewTLSServer(proxy.New(p.table, proxy.Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}))
	t.Cleanup(server.Close)
	dir := filepath.Join(p.hosts, layout.Fixed().Host)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	write(t, dir, "hosts.toml", fmt.Appendf(nil, `server = %q

[host]
[host.%q]
capabilities = ["pull", "resolve"]
ca = ["ca.crt"]
`, server.URL, server.URL))
	return p
}

func (p *path) swap(t *testing.T, generation int64, upstreams ...upstream.Upstream) {
	t.Helper()
	err := p.table.Swap(layout.Layout{
		Schema: layout.Schema, Generation: generation,
		Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// pull fetches an image with containerd's resolver and content store, which
// verifies every digest.
func (p *path) pull(t *testing.T, ref string) (ocispec.Descriptor, error) {
	t.Helper()
	ctx := t.Context()
	resolver := docker.NewResolver(docker.ResolverOptions{
		Hosts: config.ConfigureHosts(ctx, config.HostOptions{HostDir: config.HostDirFromRoot(p.hosts)}),
	})
	resolved, desc, err := resolver.Resolve(ctx, ref)
	if err != nil {
		return desc, fmt.Errorf("resolve: %w", err)
	}
	fetcher, err := resolver.Fetcher(ctx, resolved)
	if err != nil {
		return desc, fmt.Errorf("make a fetcher: %w", err)
	}
	store, err := local.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	handlers := images.Handlers(remotes.FetchHandler(store, fetcher), images.ChildrenHandler(store))
	return desc, images.Dispatch(ctx, handlers, nil, desc)
}

func (p *path) mustPull(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	desc, err := p.pull(t, ref)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if desc.Digest.String() != want.String() {
		t.Fatalf("digest %s, want %s", desc.Digest, want)
	}
}

const tool = "registry.d8-system.svc:5001/system/deckhouse/tool"

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(1<<20, 4)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// containerd knows nothing of the registry's path, CA and credentials.
func TestPullFromARealRegistry(t *testing.T) {
	t.Parallel()
	for name, bearer := range map[string]bool{"basic": false, "bearer": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := realregistry.Start(t, bearer)
			img := randomImage(t)
			r.Push(t, "team/platform/tool", "v1", img)
			r.Push(t, "team/platform", "v1", img)
			p := startPath(t, r.Upstream("team/platform"))
			digest, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			before := int64(0)
			if bearer {
				before = r.Issuer.Issued()
			}
			p.mustPull(t, tool+":v1", img)
			p.mustPull(t, tool+"@"+digest.String(), img)
			if bearer && r.Issuer.Issued()-before != 1 {
				t.Errorf("%d tokens for one repository", r.Issuer.Issued()-before)
			}
			p.mustPull(t, "registry.d8-system.svc:5001/system/deckhouse:v1", img)
			if _, err := p.pull(t, tool+":none"); err == nil {
				t.Error("an image that does not exist was pulled")
			}
		})
	}
}

func TestPullWithWrongCredentials(t *testing.T) {
	t.Parallel()
	for name, bearer := range map[string]bool{"basic": false, "bearer": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := realregistry.Start(t, bearer)
			img := randomImage(t)
			r.Push(t, "team/platform/tool", "v1", img)
			bad := r.Upstream("team/platform")
			bad.Credentials.Password = "wrong"
			p := startPath(t, bad)
			if _, err := p.pull(t, tool+":v1"); err == nil {
				t.Fatal("pulled with a wrong password")
			}
			p.swap(t, 2, bad, r.Upstream("team/platform")) // a rotation: old and new at once
			p.mustPull(t, tool+":v1", img)
		})
	}
}

// A switch from one registry to another, while the first one dies.
func TestPullGoesOnWhenARegistryDies(t *testing.T) {
	t.Parallel()
	a, b := realregistry.Start(t, false), realregistry.Start(t, true)
	img := randomImage(t)
	a.Push(t, "team/a/tool", "v1", img)
	b.Push(t, "mirror/b/c/tool", "v1", img)
	p := startPath(t, a.Upstream("team/a"))
	p.mustPull(t, tool+":v1", img)
	p.swap(t, 2, a.Upstream("team/a"), b.Upstream("mirror/b/c"))
	p.mustPull(t, tool+":v1", img)
	a.Stop()
	p.mustPull(t, tool+":v1", img)
	p.swap(t, 3, b.Upstream("mirror/b/c"))
	p.mustPull(t, tool+":v1", img)
}

func write(t *testing.T, dir, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
