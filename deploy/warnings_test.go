package deploy

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/d8-registry/registry/test/harness/apiserver"
)

// heard are the warnings of the API server, as kubectl prints them.
type heard struct{ all []string }

// HandleWarningHeader is called for each.
func (h *heard) HandleWarningHeader(_ int, _, text string) { h.all = append(h.all, text) }

// TestWarnings: what is allowed and often not meant is written, and said.
func TestWarnings(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	const clear, path, space = "in clear text", "has no path", "begins or ends with a space"
	for _, c := range []struct{ name, registry, want string }{
		{"nothing", withRepo("username: u, password: p"), ""},
		{"HTTP without credentials", withRepo("scheme: HTTP"), ""},
		{"HTTP with a password", withRepo("scheme: HTTP, username: u, password: SECRET"), clear},
		{"HTTP with a license", withRepo("scheme: HTTP, license: SECRET"), clear},
		{"a whole registry", repo("registry.example.com"), path},
		{"a whole registry in clear text", inDirect("imagesRepo: registry.example.com, scheme: HTTP, license: SECRET"), clear + path},
		{"a space", withRepo("username: u, password: 'SECRET '"), space},
		{"HTTP with a license in Proxy", "{mode: Proxy, proxy: {imagesRepo: registry.example.com/a, scheme: HTTP, license: SECRET}}", clear},
		{"a whole registry in Proxy", "{mode: Proxy, proxy: {imagesRepo: registry.example.com}}", path},
		{"Proxy", ttl("1h"), ""},
		{"Unmanaged", "{mode: Unmanaged}", ""},
		{"refused", "{mode: Direct, direct: [a]}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			warnings := warningsFor(t, api, c.registry)
			text := strings.Join(warnings, "\n")
			for _, one := range []string{clear, path, space} {
				if strings.Contains(text, one) != strings.Contains(c.want, one) {
					t.Errorf("warned of %q, want %q", warnings, c.want)
				}
			}
			if strings.Contains(text, "SECRET") {
				t.Errorf("a warning shows a secret: %q", warnings)
			}
			if wrong := "registry.direct: "; text != "" && strings.Contains(c.registry, "proxy") == strings.Contains(text, wrong) {
				t.Errorf("it is about another section: %q", warnings)
			}
		})
	}
}

func warningsFor(t *testing.T, api *apiserver.API, registry string) []string {
	t.Helper()
	var h heard
	config := api.Config()
	config.WarningHandler = &h
	o := moduleConfig(t, "deckhouse", "{version: 1}")
	if err := unstructured.SetNestedField(o.Object, parseYAML(t, registry), "spec", "settings", "registry"); err != nil {
		t.Fatal(err)
	}
	_ = create().do(t, api.ClientFor(t, config), o) // refused or not: it is the warnings that count
	return h.all
}
