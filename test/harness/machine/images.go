package machine

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Image is one image of the synthetic platform. Images share no blob, so that
// removing one from a node removes all its content.
type Image struct {
	// Name says what it is, "prometheus/alertmanager". It is no part of any
	// reference: the platform's images lie in one repository, by digest.
	Name string
	// Tag is empty but for the image of Deckhouse itself.
	Tag    string
	Digest string // of the manifest
	// ConfigDigest is the image ID that containerd knows it by.
	ConfigDigest string
	// Blobs are the digests of config and layer, Bytes their size together.
	Blobs []string
	Bytes int64
}

// Reference is the image below a base, "host/path".
func (i Image) Reference(base string) string {
	if i.Tag != "" {
		return base + ":" + i.Tag
	}
	return base + "@" + i.Digest
}

// Platform is the synthetic platform: what both registries hold.
type Platform struct {
	Images []Image
	dir    string // blobs, by digest
}

const (
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar"
	// layerBytes is the size of each image's one layer. Small, for two cores pull
	// some thousand of them. It is not packed, so that digests do not depend on
	// the version of a packer: manifests of the demo name them.
	layerBytes = 48 << 10
)

// architecture is that of this machine: containerd pulls no other.
const architecture = runtime.GOARCH

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

// NewPlatform makes images with the given names below dir. The content depends
// on the names only: the digests are the same in every run.
// Large are layers of another size than all others, in bytes.
func NewPlatform(dir string, names []string, tags map[string]string, large map[string]int) (*Platform, error) {
	p := &Platform{dir: dir}
	for _, name := range names {
		size := layerBytes
		if n, ok := large[name]; ok {
			size = n
		}
		image, err := p.build(name, size)
		if err != nil {
			return nil, fmt.Errorf("make image %s: %w", name, err)
		}
		image.Tag = tags[name]
		p.Images = append(p.Images, image)
	}
	return p, nil
}

// Image finds an image by name.
func (p *Platform) Image(name string) (Image, error) {
	for _, i := range p.Images {
		if i.Name == name {
			return i, nil
		}
	}
	return Image{}, fmt.Errorf("the platform has no image %q", name)
}

func (p *Platform) build(name string, size int) (Image, error) {
	layer, err := layerOf(name, size)
	if err != nil {
		return Image{}, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": architecture, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/" + filepath.Base(name)}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digestOf(layer)}},
	})
	if err != nil {
		return Image{}, err
	}
	layerDesc := descriptor{mediaLayer, digestOf(layer), len(layer)}
	configDesc := descriptor{mediaConfig, digestOf(config), len(config)}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest,
		"config": configDesc, "layers": []descriptor{layerDesc},
	})
	if err != nil {
		return Image{}, err
	}
	for _, blob := range [][]byte{layer, config, manifest} {
		if err := writeFile(filepath.Join(p.dir, hexOf(digestOf(blob))), blob, 0o644); err != nil {
			return Image{}, err
		}
	}
	return Image{
		Name: name, Digest: digestOf(manifest), ConfigDigest: configDesc.Digest,
		Blobs: []string{configDesc.Digest, layerDesc.Digest}, Bytes: int64(len(layer) + len(config)),
	}, nil
}

// layerOf is a tar with one file of noise.
func layerOf(name string, size int) ([]byte, error) {
	noise := make([]byte, size)
	if _, err := rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(noise); err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	header := &tar.Header{Name: filepath.Base(name), Mode: 0o755, Size: int64(len(noise)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(noise); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return layer.Bytes(), nil
}

// Fill lays the images out in the storage of a distribution registry, as the
// repository path. Blobs are hard links: two registries cost the space of one.
func (p *Platform) Fill(storage, path string) error {
	root := filepath.Join(storage, "docker", "registry", "v2")
	repository := filepath.Join(root, "repositories", filepath.FromSlash(path))
	for _, image := range p.Images {
		for _, digest := range append([]string{image.Digest}, image.Blobs...) {
			if err := p.link(root, digest); err != nil {
				return fmt.Errorf("fill registry with %s: %w", image.Name, err)
			}
		}
		links := map[string]string{filepath.Join("_manifests", "revisions", "sha256", hexOf(image.Digest)): image.Digest}
		for _, blob := range image.Blobs {
			links[filepath.Join("_layers", "sha256", hexOf(blob))] = blob
		}
		if image.Tag != "" {
			links[filepath.Join("_manifests", "tags", image.Tag, "current")] = image.Digest
		}
		for folder, digest := range links {
			if err := writeFile(filepath.Join(repository, folder, "link"), []byte(digest), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Platform) link(root, digest string) error {
	dir := filepath.Join(root, "blobs", "sha256", hexOf(digest)[:2], hexOf(digest))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	err := os.Link(filepath.Join(p.dir, hexOf(digest)), filepath.Join(dir, "data"))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }
