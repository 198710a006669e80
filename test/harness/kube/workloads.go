package kube

import (
	"bytes"
	"context"
	_ "embed" // the manifests
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/d8-registry/registry/test/harness/machine"
)

// The platform's objects. Its Deployment d8-system/deckhouse has no namespace of
// its own here.
const (
	PlatformNamespace = "d8-platform"

	deckhouseImage = "deckhouse"

	workloadsWithin = 3 * time.Minute
)

//go:embed platform.yaml
var platformManifest string

// ApplyPlatform makes the platform as an installation in Unmanaged leaves it:
// every image by the real address of the first registry, with Secret
// deckhouse-registry in each namespace. It returns when all of it runs.
func (c *Cluster) ApplyPlatform(ctx context.Context) error {
	if err := c.makePlatform(ctx); err != nil {
		return err
	}
	if err := c.applyTemplate(ctx, platformManifest, nil); err != nil {
		return fmt.Errorf("apply the platform: %w", err)
	}
	for _, workload := range []string{"deployment/web", "daemonset/logger", "statefulset/store", "deployment/paused"} {
		if err := c.Rollout(ctx, PlatformNamespace, workload, workloadsWithin); err != nil {
			return err
		}
	}
	if _, err := c.Kubectl(ctx, "", "-n", PlatformNamespace, "rollout", "pause", "deployment/paused"); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "", "-n", PlatformNamespace, "wait", "pod", "-l", "app=ondelete", "--for=condition=Ready", "--timeout="+workloadsWithin.String()); err != nil {
		return err
	}
	return c.Rollout(ctx, "d8-system", "deployment/deckhouse", workloadsWithin)
}

// applyTemplate applies manifests with images, credentials and further values
// filled in.
func (c *Cluster) applyTemplate(ctx context.Context, text string, values map[string]string) error {
	a := c.Registries[0]
	functions := template.FuncMap{
		"image":        func(name string) (string, error) { return c.Reference(a.Base(), name) },
		"digests":      c.digests,
		"dockerconfig": func() (string, error) { return dockerConfig(a) },
		"indent":       func(n int, s string) string { return strings.ReplaceAll(s, "\n", "\n"+strings.Repeat(" ", n)) },
	}
	for key, value := range values {
		functions[key] = func() string { return value }
	}
	t, err := template.New("manifests").Funcs(functions).Parse(text)
	if err != nil {
		return fmt.Errorf("read the manifests: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, nil); err != nil {
		return fmt.Errorf("fill in the manifests: %w", err)
	}
	return c.Apply(ctx, out.String())
}

// digests is images_digests.json: module, image, digest.
func (c *Cluster) digests() (string, error) {
	modules := map[string]map[string]string{}
	for image, made := range c.images {
		module, name, ok := strings.Cut(image, "/")
		if !ok {
			continue // Deckhouse itself, by tag
		}
		if modules[module] == nil {
			modules[module] = map[string]string{}
		}
		modules[module][name] = made.digest
	}
	data, err := json.MarshalIndent(modules, "", "  ")
	return string(data), err
}

// dockerConfig is the pull secret of a registry, in base64.
func dockerConfig(g *machine.Registry) (string, error) {
	auths := map[string]any{}
	for user, password := range g.Users {
		auths[g.Host] = map[string]string{
			"username": user, "password": password, "auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password)),
		}
	}
	data, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		return "", fmt.Errorf("pull secret of %s: %w", g.Host, err)
	}
	return base64.StdEncoding.EncodeToString(data), nil
}
