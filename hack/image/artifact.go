package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// binDir is in PATH: Kubernetes templates name programs without a folder.
	binDir = "usr/local/bin"
	// nobody is who runs where a pod says nothing: no user of any machine.
	nobody = "64535:64535"

	mediaTypeSBOM types.MediaType = "application/vnd.cyclonedx+json"
)

// artifact is the image for all platforms, with what is in each.
type artifact struct {
	created  time.Time
	version  string
	variants []variant
}

type variant struct {
	platform v1.Platform
	image    v1.Image
	sbom     []byte
	// referrer is the SBOM as a manifest that refers to image.
	referrer v1.Image
}

// add makes the image of one platform from a folder of programs.
func (a *artifact) add(platform, bin string) error {
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		return fmt.Errorf("platform %q: %w", platform, err)
	}
	v := variant{platform: *p}
	layer, err := a.layer(bin)
	if err != nil {
		return fmt.Errorf("make layer for %s: %w", platform, err)
	}
	if v.image, err = a.image(v.platform, layer); err != nil {
		return fmt.Errorf("make image for %s: %w", platform, err)
	}
	if v.sbom, err = sbom(bin, a.version, a.created); err != nil {
		return fmt.Errorf("make SBOM for %s: %w", platform, err)
	}
	if v.referrer, err = refer(v.image, v.sbom); err != nil {
		return fmt.Errorf("attach SBOM for %s: %w", platform, err)
	}
	a.variants = append(a.variants, v)
	return nil
}

// layer is the image's only one: the programs, owned by root, of one time.
func (a *artifact) layer(bin string) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []string{"usr/", "usr/local/", binDir + "/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: a.created}); err != nil {
			return nil, err
		}
	}
	for _, program := range programs() {
		data, err := os.ReadFile(filepath.Join(bin, program))
		if err != nil {
			return nil, err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: binDir + "/" + program, Mode: 0o755, Size: int64(len(data)), ModTime: a.created}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

func (a *artifact) image(p v1.Platform, layer v1.Layer) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(base, mutate.Addendum{Layer: layer, History: v1.History{
		Created: v1.Time{Time: a.created}, CreatedBy: "hack/image",
	}})
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Variant = p.OS, p.Architecture, p.Variant
	file.Created = v1.Time{Time: a.created}
	file.Config = v1.Config{
		User: nobody,
		Env:  []string{"PATH=/" + binDir},
		// Every template of ours names its program; without one, the image tells
		// what it is for.
		Cmd: []string{"registry-controller", "--help"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "registry",
			"org.opencontainers.image.version":  a.version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(img, file)
}

// refer makes a manifest that registries list as a referrer of an image.
func refer(img v1.Image, sbom []byte) (v1.Image, error) {
	subject, err := partial.Descriptor(img)
	if err != nil {
		return nil, err
	}
	subject.Platform = nil
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mediaTypeSBOM)
	list, err := mutate.AppendLayers(base, static.NewLayer(sbom, mediaTypeSBOM))
	if err != nil {
		return nil, err
	}
	referrer, ok := mutate.Subject(list, *subject).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("%T is no image", list)
	}
	return referrer, nil
}

// index is all platforms under one reference.
func (a *artifact) index() v1.ImageIndex {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, v := range a.variants {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: v.image, Descriptor: v1.Descriptor{Platform: &v.platform}})
	}
	return index
}

// push writes the index and the SBOMs to a registry, with the credentials of
// Docker's configuration and the system's certificate authorities.
func (a *artifact) push(ctx context.Context, reference string) error {
	to, err := name.ParseReference(reference)
	if err != nil {
		return err
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := remote.WriteIndex(to, a.index(), options...); err != nil {
		return err
	}
	for _, v := range a.variants {
		digest, err := v.referrer.Digest()
		if err != nil {
			return err
		}
		if err := remote.Write(to.Context().Digest(digest.String()), v.referrer, options...); err != nil {
			return fmt.Errorf("SBOM for %s: %w", v.platform, err)
		}
	}
	return nil
}
