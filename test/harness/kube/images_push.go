package kube

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/d8-registry/registry/test/harness/machine"
)

// ModuleRepository is where the module's image is below a registry's base.
const ModuleRepository = "registry"

// BuildModule builds the module's image of the source, for this machine's
// architecture, and returns the path of its OCI archive.
func (c *Cluster) BuildModule(ctx context.Context, version string) (string, error) {
	out := c.Run.Path("module", version)
	cmd := exec.CommandContext(ctx, "go", "run", ".", "-source", c.options.Source, "-o", out, "-version", version, "-platforms", "linux/"+goruntime.GOARCH)
	cmd.Dir = filepath.Join(c.options.Source, "hack", "image")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the module's image: %w: %s", err, text)
	}
	return filepath.Join(out, "registry.tar"), nil
}

// PushModule builds a version of the module and pushes it to the platform's
// registries.
func (c *Cluster) PushModule(ctx context.Context, version string) error {
	archive, err := c.BuildModule(ctx, version)
	if err != nil {
		return err
	}
	for _, g := range c.platformRegistries() {
		if err := c.Push(ctx, g, archive, ModuleRepository, version); err != nil {
			return err
		}
	}
	return nil
}

// platformRegistries are those that hold the platform.
func (c *Cluster) platformRegistries() []*machine.Registry {
	return c.Registries[:min(2, len(c.Registries))]
}

// Push pushes an OCI archive to a repository below a registry's base: what is
// named in it under the tag, what is not (SBOMs) by digest.
func (c *Cluster) Push(ctx context.Context, g *machine.Registry, archive, repository, tag string) error {
	dir, err := os.MkdirTemp(c.Run.Dir, "push-")
	if err != nil {
		return fmt.Errorf("push %s: %w", archive, err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // the run's folder goes in the end
	if err := unpack(archive, dir); err != nil {
		return fmt.Errorf("unpack %s: %w", archive, err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return fmt.Errorf("read %s: %w", archive, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("read %s: %w", archive, err)
	}
	to, err := newPusher(ctx, g, repository)
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		if err := to.pushEntry(index, d, tag); err != nil {
			return fmt.Errorf("push %s to %s: %w", archive, to.repository, err)
		}
	}
	return nil
}

// pusher writes to one repository of a registry.
type pusher struct {
	repository name.Repository
	options    []remote.Option
}

func newPusher(ctx context.Context, g *machine.Registry, repository string) (pusher, error) {
	to, err := name.NewRepository(filepath.Join(g.Base(), repository))
	if err != nil {
		return pusher{}, fmt.Errorf("push to %s: %w", g.Host, err)
	}
	transport, err := g.Transport()
	if err != nil {
		return pusher{}, err
	}
	var login authn.Basic
	for user, password := range g.Users {
		login = authn.Basic{Username: user, Password: password}
	}
	return pusher{to, []remote.Option{remote.WithContext(ctx), remote.WithAuth(&login), remote.WithTransport(http.RoundTripper(transport))}}, nil
}

func (p pusher) pushEntry(index v1.ImageIndex, d v1.Descriptor, tag string) error {
	named := d.Annotations["org.opencontainers.image.ref.name"] != ""
	var to name.Reference = p.repository.Digest(d.Digest.String())
	if named {
		to = p.repository.Tag(tag)
	}
	if d.MediaType.IsIndex() {
		child, err := index.ImageIndex(d.Digest)
		if err != nil {
			return err
		}
		return remote.WriteIndex(to, child, p.options...)
	}
	img, err := index.Image(d.Digest)
	if err != nil {
		return err
	}
	return remote.Write(to, img, p.options...)
}

// unpack writes the regular files of an archive below dir.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // nothing is written through it any more
	r := tar.NewReader(f)
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(header.Name), 0o750); err != nil {
			return err
		}
		if err := extract(root, header.Name, r); err != nil {
			return err
		}
	}
}

func extract(root *os.Root, name string, r io.Reader) error {
	out, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Close())
}
