package main

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// writeTar writes the image as an OCI layout into one file. Beside the image it
// holds the SBOMs, as a registry would have them.
func (a *artifact) writeTar(path, work, reference string) error {
	l, err := layout.Write(work, empty.Index)
	if err != nil {
		return fmt.Errorf("make OCI layout: %w", err)
	}
	// The first is containerd's, the other everybody's.
	names := map[string]string{"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
	if err := l.AppendIndex(a.index(), layout.WithAnnotations(names)); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	for _, v := range a.variants {
		if err := l.AppendImage(v.referrer); err != nil {
			return fmt.Errorf("write SBOM for %s: %w", v.platform, err)
		}
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".registry-*.tar")
	if err != nil {
		return fmt.Errorf("make tarball: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone by then, if all went well
	if err := writeFolder(file, work, a.created); err != nil {
		_ = file.Close()
		return fmt.Errorf("write tarball: %w", err)
	}
	if err := file.Chmod(0o644); err != nil {
		_ = file.Close()
		return fmt.Errorf("write tarball: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write tarball: %w", err)
	}
	return os.Rename(file.Name(), path)
}

// writeFolder writes a folder's files in the order of their names.
func writeFolder(to io.Writer, dir string, modified time.Time) error {
	w := tar.NewWriter(to)
	files := os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if entry.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: modified})
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: modified}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}
