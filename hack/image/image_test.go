package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// source writes a module with programs of our names that are quickly built.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"go.mod":                      "module " + module + "\n\ngo 1.26.0\n",
		"internal/version/release.go": "package release\n\nvar version string\n\nfunc Version() string { return version }\n",
	}
	for _, program := range programs() {
		files["cmd/"+program+"/main.go"] = "package main\n\nimport \"" + module + "/internal/version\"\n\nfunc main() { print(release.Version()) }\n"
	}
	// What builds only with a tag is not for the image, whatever the builder's
	// environment asks for.
	files["cmd/registry-controller/broken.go"] = "//go:build brokenprotocol\n\npackage main\n\nand this does not compile\n"
	t.Setenv("GOFLAGS", "-tags=brokenprotocol")
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func build(t *testing.T, args ...string) string {
	t.Helper()
	out := t.TempDir()
	args = append([]string{"-source", source(t), "-o", out, "-version", "v1.2.3"}, args...)
	if err := run(t.Context(), args, log.New(t.Output(), "", 0)); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReproducible builds in two places; what differs by place or time differs
// in the tarball.
func TestReproducible(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	first, second := build(t), build(t)
	for _, file := range []string{"registry.tar", "registry.digest", "registry-amd64.cdx.json", "registry-arm64.cdx.json"} {
		a, b := read(t, first, file), read(t, second, file)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs the second time", file)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000001")
	if bytes.Equal(read(t, first, "registry.tar"), read(t, build(t), "registry.tar")) {
		t.Error("another time of the source makes no difference: is it used at all?")
	}
}

func TestImage(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	out := build(t, "-name", "registry.example.test/platform/registry:v1.2.3")
	path := unpack(t, filepath.Join(out, "registry.tar"))
	top, err := layout.ImageIndexFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got := manifest.Manifests[0].Annotations["io.containerd.image.name"]; got != "registry.example.test/platform/registry:v1.2.3" {
		t.Errorf("imported as %q", got)
	}
	if got := strings.TrimSpace(string(read(t, out, "registry.digest"))); got != manifest.Manifests[0].Digest.String() {
		t.Errorf("registry.digest is %s", got)
	}
	index, err := top.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	images, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range images.Manifests {
		platforms = append(platforms, d.Platform.String())
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, img, d.Platform)
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("platforms %v", platforms)
	}
}

func checkImage(t *testing.T, img v1.Image, platform *v1.Platform) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !config.Platform().Satisfies(*platform) {
		t.Errorf("%s has the configuration of %s", platform, config.Platform())
	}
	if config.Config.User != "64535:64535" || !slices.Contains(config.Config.Env, "PATH=/usr/local/bin") {
		t.Errorf("runs as %q with %q", config.Config.User, config.Config.Env)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatal(len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Uid != 0 || h.Gid != 0 || h.Mode != 0o755 || h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s: %d:%d %o %s", h.Name, h.Uid, h.Gid, h.Mode, h.ModTime)
		}
	}
	// No shell, no file that is not ours.
	want := []string{"usr/", "usr/local/", "usr/local/bin/",
		"usr/local/bin/registry-agent", "usr/local/bin/registry-controller", "usr/local/bin/registry-proxy",
		"usr/local/bin/registry-store"}
	if !slices.Equal(names, want) {
		t.Errorf("the image holds %q", names)
	}
}

// TestPush finds the SBOM the way that scanners do: as a referrer of the image.
func TestPush(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true)))
	defer server.Close()
	repo := strings.TrimPrefix(server.URL, "http://") + "/platform/registry"
	out := build(t, "-push", repo+":v1.2.3")
	ref, err := name.ParseReference(repo + ":v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "arm64"}))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	referrers, err := remote.Referrers(ref.Context().Digest(digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	list, err := referrers.IndexManifest()
	if err != nil || len(list.Manifests) != 1 || list.Manifests[0].ArtifactType != string(mediaTypeSBOM) {
		t.Fatalf("referrers: %+v %v", list, err)
	}
	attached, err := remote.Image(ref.Context().Digest(list.Manifests[0].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := attached.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(content)
	if err != nil || !bytes.Equal(data, read(t, out, "registry-arm64.cdx.json")) {
		t.Errorf("the referrer is not the SBOM beside the tarball: %v", err)
	}
	checkSBOM(t, data)
}

func checkSBOM(t *testing.T, data []byte) {
	t.Helper()
	var bom cdx.BOM
	if err := json.Unmarshal(data, &bom); err != nil {
		t.Fatal(err)
	}
	var purls, names []string
	for _, c := range *bom.Components {
		purls, names = append(purls, c.PackageURL), append(names, c.Name)
	}
	for _, program := range programs() {
		if !slices.Contains(names, program) {
			t.Errorf("the SBOM does not list %s", program)
		}
	}
	if !slices.ContainsFunc(purls, func(p string) bool { return strings.HasPrefix(p, "pkg:golang/stdlib@1.") }) {
		t.Errorf("the SBOM lists %q, not the standard library", purls)
	}
}

func read(t *testing.T, dir, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unpack(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	dir := t.TempDir()
	for r := tar.NewReader(file); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(to, 0o755)
		} else {
			data, readErr := io.ReadAll(r)
			if readErr != nil {
				t.Fatal(readErr)
			}
			err = os.WriteFile(to, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
