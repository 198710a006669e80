package kube

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestImagesShareNoLayer: a layer that is in the store already would hide a
// download.
func TestImagesShareNoLayer(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "component")
	if err := os.WriteFile(program, []byte("a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	digests := func(name string) (manifest, layer v1.Hash) {
		t.Helper()
		img, err := programImage(name, program)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatalf("%d layers: %v", len(layers), err)
		}
		if layer, err = layers[0].Digest(); err != nil {
			t.Fatal(err)
		}
		if manifest, err = img.Digest(); err != nil {
			t.Fatal(err)
		}
		return manifest, layer
	}
	web, webLayer := digests("web/server")
	again, _ := digests("web/server")
	_, otherLayer := digests("store/server")
	if web != again {
		t.Error("the same image has another digest the second time")
	}
	if webLayer == otherLayer {
		t.Error("two images share a layer")
	}
	if _, err := programImage("web/server", filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("an image of no program")
	}
}

func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	write := func(name string) string {
		t.Helper()
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 2, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "archive.tar")
		if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dir := t.TempDir()
	if err := unpack(write("blobs/sha256/abc"), dir); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", "abc")); err != nil || string(data) != "{}" {
		t.Errorf("%q: %v", data, err)
	}
	if err := unpack(write("../outside"), dir); err == nil {
		t.Error("a file is written outside")
	}
}
