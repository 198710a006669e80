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
	smallSize = 256 << 20 // of a layer that the manifest does not name
	tinySize  = 64 << 20  // the same
	slowSize  = 4 << 20   // the same; the upstream gives 1 MiB of it at once, and 1 MiB a second
	layers    = 8         // that the manifest names
)

// content is what the upstream has: one image as files.
type content struct {
	root            string
	manifest, layer string // digests
	blobs           map[int64]string
}

// makeContent writes the image below dir. The layer is a hole of zeros: neither TLS nor
// any of the programs compresses it.
func makeContent(dir string) (content, error) {
	c := content{root: filepath.Join(dir, "content"), blobs: map[int64]string{}}
	hash, done := sha256.New(), int64(0)
	for _, size := range []int64{slowSize, tinySize, smallSize, layerSize} {
		if _, err := io.CopyN(hash, zeros{}, size-done); err != nil {
			return c, fmt.Errorf("digest of a layer: %w", err)
		}
		c.blobs[size], done = "sha256:"+hex.EncodeToString(hash.Sum(nil)), size
	}
	c.layer = c.blobs[layerSize]
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
	err := errors.Join(
		os.MkdirAll(filepath.Join(base, "manifests"), 0o750),
		os.MkdirAll(filepath.Join(base, "blobs"), 0o750),
		os.WriteFile(filepath.Join(base, "manifests", "v1"), []byte(manifest), 0o600),
		os.WriteFile(filepath.Join(base, "manifests", c.manifest), []byte(manifest), 0o600))
	for size, digest := range c.blobs {
		layer := filepath.Join(base, "blobs", digest)
		err = errors.Join(err, os.WriteFile(layer, nil, 0o600), os.Truncate(layer, size))
	}
	return c, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
