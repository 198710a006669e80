package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed *.yaml
var manifests embed.FS

// manifest is a file of this folder, with the run's CA filled in.
func (d *demo) manifest(file string) (string, error) {
	data, err := manifests.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	ca, err := json.Marshal(d.cluster.Registries[0].CA)
	if err != nil {
		return "", fmt.Errorf("quote the CA: %w", err)
	}
	return strings.ReplaceAll(string(data), "${CA}", string(ca)), nil
}

// apply is kubectl apply of a file of this folder.
func (d *demo) apply(ctx context.Context, file string) error {
	text, err := d.manifest(file)
	if err != nil {
		return err
	}
	if _, err := d.cluster.Kubectl(ctx, text, "apply", "-f", "-"); err != nil {
		return fmt.Errorf("apply %s: %w", file, err)
	}
	return nil
}

// applyProduct applies what is part of the product: CRDs, policies, rights.
func (d *demo) applyProduct(ctx context.Context) error {
	for _, folder := range []string{"crds", "admission", "rbac"} {
		dir := filepath.Join(d.options.root, "deploy", folder)
		if files, err := filepath.Glob(filepath.Join(dir, "*.yaml")); err != nil || len(files) == 0 {
			continue
		}
		if _, err := d.cluster.Kubectl(ctx, "", "apply", "--server-side", "-R", "-f", dir); err != nil {
			return fmt.Errorf("apply %s: %w", dir, err)
		}
		if folder == "crds" {
			if _, err := d.cluster.Kubectl(ctx, "", "wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"); err != nil {
				return err
			}
		}
	}
	return nil
}

// deckhouseImage and its tag: the one image that is not named by digest.
const (
	deckhouseImage = "deckhouse/deckhouse"
	deckhouseTag   = "v1.72.3"
	ownImage       = "registry/registry"
)

// imageNames are the names of all images, and the digests that images.yaml says
// they have.
func imageNames() (names []string, digests map[string]string, err error) {
	data, err := manifests.ReadFile("images.yaml")
	if err != nil {
		return nil, nil, fmt.Errorf("read images.yaml: %w", err)
	}
	var object struct{ Data map[string]string }
	if err := yaml.Unmarshal(data, &object); err != nil {
		return nil, nil, fmt.Errorf("parse images.yaml: %w", err)
	}
	var modules map[string]map[string]string
	if err := json.Unmarshal([]byte(object.Data["images_digests.json"]), &modules); err != nil {
		return nil, nil, fmt.Errorf("parse images_digests.json: %w", err)
	}
	digests = map[string]string{}
	for module, images := range modules {
		for image, digest := range images {
			names = append(names, module+"/"+image)
			digests[module+"/"+image] = digest
		}
	}
	return append(names, deckhouseImage), digests, nil
}
