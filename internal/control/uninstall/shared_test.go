package uninstall

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestWhichObjectGoesWithItsCRD: only a ModuleConfig that says nothing but which
// registry to use.
func TestWhichObjectGoesWithItsCRD(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"{kind: ModuleConfig, metadata: {name: deckhouse}, spec: {version: 1, enabled: true, settings: {registry: {mode: Unmanaged}}}}": true,
		"{kind: ModuleConfig, metadata: {name: deckhouse}, spec: {version: 1, enabled: true}}":                                          true,
		"{kind: ModuleConfig, metadata: {name: deckhouse}, spec: {settings: {releaseChannel: Stable, registry: {mode: Unmanaged}}}}":    false,
		"{kind: ModuleConfig, metadata: {name: deckhouse}, spec: {settings: strange}}":                                                  false,
		"{kind: ModuleConfig, metadata: {name: registry}, spec: {enabled: true}}":                                                       false,
		"{kind: NodeGroupConfiguration, metadata: {name: deckhouse}, spec: {content: x}}":                                               false,
	} {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
			t.Fatal(err)
		}
		if got := onlyRegistrySettings(&o); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
