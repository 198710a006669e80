package kube

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// spareImages is how many images nodes may pull for the sake of pulling.
const spareImages = 60

// programImage is an image that holds one program and a file of noise that
// follows from the image's name: no two images share a layer.
func programImage(image, program string) (v1.Image, error) {
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", image, err)
	}
	layer, err := programLayer(image, filepath.Base(program), data)
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", image, err)
	}
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", image, err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", image, err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", goruntime.GOARCH
	file.Config = v1.Config{Entrypoint: []string{"/" + filepath.Base(program)}}
	return mutate.ConfigFile(img, file)
}

func programLayer(image, program string, data []byte) (v1.Layer, error) {
	noise := make([]byte, 1<<10)
	if _, err := rand.NewChaCha8(sha256.Sum256([]byte(image))).Read(noise); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	// The noise comes first: the compressed bytes differ from there on.
	for _, file := range []struct {
		name string
		mode int64
		data []byte
	}{{"noise", 0o644, noise}, {program, 0o755, data}} {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: file.name, Mode: file.mode, Size: int64(len(file.data)), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(file.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// preloaded are archives of what machines have from the beginning: the sandbox
// image and CoreDNS.
func (c *Cluster) preloaded() ([]string, error) {
	var archives []string
	for reference, program := range map[string]string{SandboxImage: "pause", dnsImage: "coredns"} {
		archive, err := c.archive(reference, c.options.Binaries.Path(program))
		if err != nil {
			return nil, err
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

// archive writes an image of one program into a file that containerd imports.
func (c *Cluster) archive(reference, program string) (string, error) {
	img, err := programImage(reference, program)
	if err != nil {
		return "", err
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		return "", fmt.Errorf("name %s: %w", reference, err)
	}
	path := c.Run.Path(filepath.Base(program) + ".tar")
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return path, nil
}

// compile builds a program of the module's source, static.
func (c *Cluster) compile(ctx context.Context, pkg, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Dir = c.options.Source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	return nil
}
