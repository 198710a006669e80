package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// repository is the upstream's only one.
const repository = "bench/tool"

const (
	layerSize = 1 << 30
	layers    = 8 // that the manifest names
)

// content is what the upstream has: one image as files.
type content struct {
	root            string
	manifest, layer string // digests
}

// makeContent writes the image below dir. The layer is a hole of zeros: neither TLS nor
// any of the programs compresses it.
func makeContent(dir string) (content, error) {
	c := content{root: filepath.Join(dir, "content")}
	hash := sha256.New()
	if _, err := io.CopyN(hash, zeros{}, layerSize); err != nil {
		return c, fmt.Errorf("digest of the layer: %w", err)
	}
	c.layer = "sha256:" + hex.EncodeToString(hash.Sum(nil))
	manifest := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + c.layer + `","size":1073741824},"layers":[`
	for i := range layers {
		if i > 0 {
			manifest += ","
		}
		manifest += `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + c.layer + `","size":1073741824}`
	}
	manifest += "]}"
	sum := sha256.Sum256([]byte(manifest))
	c.manifest = "sha256:" + hex.EncodeToString(sum[:])
	base := filepath.Join(c.root, "v2", repository)
	layer := filepath.Join(base, "blobs", c.layer)
	return c, errors.Join(
		os.MkdirAll(filepath.Join(base, "manifests"), 0o750),
		os.MkdirAll(filepath.Join(base, "blobs"), 0o750),
		os.WriteFile(filepath.Join(base, "manifests", "v1"), []byte(manifest), 0o600),
		os.WriteFile(filepath.Join(base, "manifests", c.manifest), []byte(manifest), 0o600),
		os.WriteFile(layer, nil, 0o600),
		os.Truncate(layer, layerSize))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
