package deploy

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/apiserver"
)

const (
	specDirect    = "{version: 1, enabled: true, settings: {bundle: Default, registry: {mode: Direct, direct: {imagesRepo: registry.example.com/a}}}}"
	specOther     = "{version: 1, enabled: true, settings: {bundle: Default, registry: {mode: Direct, direct: {imagesRepo: other.example.com/b}}}}"
	specProxy     = "{version: 1, enabled: true, settings: {bundle: Default, registry: {mode: Proxy, proxy: {imagesRepo: registry.example.com/a}}}}"
	specUnmanaged = "{version: 1, enabled: true, settings: {bundle: Default, registry: {mode: Unmanaged}}}"
	specEmpty     = "{version: 1, enabled: true, settings: {bundle: Default, registry: {}}}"
	specSectioned = "{version: 1, enabled: true, settings: {bundle: Default}}"
	specBare      = "{version: 1, enabled: true}"
)

// patch is a write by a merge patch, as YAML.
func patch(body string) write {
	return write{"patch", func(t *testing.T, c client.Client, o *unstructured.Unstructured) error {
		data := []byte(toJSON(t, parseYAML(t, body)))
		return c.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, data), client.DryRunAll)
	}}
}

func remove() write {
	return write{"delete", func(t *testing.T, c client.Client, o *unstructured.Unstructured) error {
		return c.Delete(t.Context(), o, client.DryRunAll)
	}}
}

func removeAll() write {
	return write{"delete collection", func(t *testing.T, c client.Client, o *unstructured.Unstructured) error {
		return c.DeleteAllOf(t.Context(), o, client.DryRunAll)
	}}
}

// What is refused while the mode is Direct; in Proxy it is the same with its name.
const (
	deleted     = "ModuleConfig deckhouse cannot be deleted while registry mode is 'Direct'. Set mode 'Unmanaged' first."
	sectionGone = "registry: the section cannot be removed while mode is 'Direct'. Set mode 'Unmanaged' instead."
	modeGone    = "registry: 'mode' cannot be removed while it is 'Direct'. Set mode 'Unmanaged' instead."
	stillOn     = "ModuleConfig deckhouse cannot be disabled while registry mode is 'Direct'. Set mode 'Unmanaged' first."
	leftOver    = " It is left over from before; to remove it and set the mode in one step: kubectl patch moduleconfig deckhouse --type merge -p '"
)

// kept is one write of ModuleConfig deckhouse.
type kept struct {
	name, before string
	write        write
	after, want  string
}

func (k kept) try(t *testing.T, api *apiserver.API) {
	t.Helper()
	t.Run(k.name, func(t *testing.T) {
		store(t, api, moduleConfig(t, "deckhouse", k.before))
		check(t, k.write.do(t, api.Client(), moduleConfig(t, "deckhouse", k.after)), k.want)
	})
}

// TestKeepDirect is about what may be taken away from ModuleConfig deckhouse.
func TestKeepDirect(t *testing.T) {
	api := server.Start(t)
	for _, tt := range []kept{
		{"delete in Direct", specDirect, remove(), specDirect, deleted},
		{"delete collection in Direct", specDirect, removeAll(), specDirect, deleted},
		{"delete in Unmanaged", specUnmanaged, remove(), specUnmanaged, ""},
		{"delete collection in Unmanaged", specUnmanaged, removeAll(), specUnmanaged, ""},
		{"delete without section", specBare, remove(), specBare, ""},
		{"remove section in Direct", specDirect, update(), specSectioned, sectionGone},
		{"remove settings in Direct", specDirect, update(), specBare, sectionGone},
		{"patch section to null in Direct", specDirect, patch("{spec: {settings: {registry: null}}}"), specDirect, sectionGone},
		{"patch settings to null in Direct", specDirect, patch("{spec: {settings: null}}"), specDirect, sectionGone},
		{"empty section in Direct", specDirect, update(), specEmpty, modeGone},
		{"patch mode to null in Direct", specDirect, patch("{spec: {settings: {registry: {mode: null, direct: null}}}}"), specDirect, modeGone},
		{"wrong type in Direct", specDirect, patch("{spec: {settings: {registry: 7}}}"), specDirect, "registry: must be an object with 'mode'."},
		{"disable in Direct", specDirect, patch("{spec: {enabled: false}}"), specDirect, stillOn},
		{"disable and leave Direct at once", specDirect,
			patch("{spec: {enabled: false, settings: {registry: {mode: Unmanaged, direct: null}}}}"), specDirect, stillOn},
		{"disable in Unmanaged", specUnmanaged, patch("{spec: {enabled: false}}"), specUnmanaged, ""},
		{"Direct to Direct", specDirect, update(), specOther, ""},
		{"Direct to Unmanaged", specDirect, update(), specUnmanaged, ""},
		{"Unmanaged to Direct", specUnmanaged, update(), specDirect, ""},
		{"no section to Direct", specBare, update(), specDirect, ""},
		{"remove section in Unmanaged", specUnmanaged, update(), specSectioned, ""},
		{"another setting in Direct", specDirect, patch("{spec: {settings: {bundle: Minimal}}}"), specDirect, ""},
		{"metadata in Direct", specDirect, patch("{metadata: {labels: {a: b}}}"), specDirect, ""},
		{"Direct disabled", strings.Replace(specUnmanaged, "enabled: true", "enabled: false", 1), patch("{spec: {settings: {registry: {mode: Direct, direct: {imagesRepo: a.b/c}}}}}"),
			specDirect, "ModuleConfig deckhouse cannot have registry mode 'Direct' while it is disabled. Set enabled: true."},
	} {
		tt.try(t, api)
	}
}

// TestKeepProxy is about what may be taken away from it in Proxy, and the ways into that mode and out of it.
func TestKeepProxy(t *testing.T) {
	api := server.Start(t)
	proxy := func(want string) string { return strings.ReplaceAll(want, "'Direct'", "'Proxy'") }
	for _, tt := range []kept{
		{"delete in Proxy", specProxy, remove(), specProxy, proxy(deleted)},
		{"delete collection in Proxy", specProxy, removeAll(), specProxy, proxy(deleted)},
		{"remove section in Proxy", specProxy, update(), specSectioned, proxy(sectionGone)},
		{"patch mode to null in Proxy", specProxy, patch("{spec: {settings: {registry: {mode: null, proxy: null}}}}"), specProxy, proxy(modeGone)},
		{"disable in Proxy", specProxy, patch("{spec: {enabled: false}}"), specProxy, proxy(stillOn)},
		{"Proxy disabled", strings.Replace(specUnmanaged, "enabled: true", "enabled: false", 1), patch("{spec: {settings: {registry: {mode: Proxy, proxy: {imagesRepo: a.b/c}}}}}"),
			specProxy, "ModuleConfig deckhouse cannot have registry mode 'Proxy' while it is disabled. Set enabled: true."},
		{"Direct to Proxy", specDirect, update(), specProxy, ""},
		{"Proxy to Direct", specProxy, update(), specDirect, ""},
		{"Proxy to Unmanaged", specProxy, update(), specUnmanaged, ""},
		{"Unmanaged to Proxy", specUnmanaged, update(), specProxy, ""},
		{"Proxy, and Direct's section left over", specDirect, patch("{spec: {settings: {registry: {mode: Proxy, proxy: {imagesRepo: a.b/c}}}}}"), specProxy,
			wantOmitted + leftOver + `{"spec":{"settings":{"registry":{"mode":"Proxy","direct":null,"proxy":{…}}}}}'`},
		{"Unmanaged, and Proxy's section left over", specProxy, patch("{spec: {settings: {registry: {mode: Unmanaged}}}}"), specUnmanaged,
			wantProxyOmitted + leftOver + `{"spec":{"settings":{"registry":{"mode":"Unmanaged","proxy":null}}}}'`},
	} {
		tt.try(t, api)
	}
}

// TestOtherModuleConfigs: what they have in a section called registry is not
// ours to judge.
func TestOtherModuleConfigs(t *testing.T) {
	api := server.Start(t)
	o := moduleConfig(t, "other", "{version: 1, settings: {registry: {mode: Anything}}}")
	store(t, api, o)
	for _, w := range []write{update(), serverSideApply(), remove()} {
		t.Run(w.name, func(t *testing.T) { check(t, w.do(t, api.Client(), o.DeepCopy()), "") })
	}
}

// TestModule is about ModuleConfig registry, which enables the module.
func TestModule(t *testing.T) {
	api := server.Start(t)
	const (
		needed   = "Module registry cannot be disabled while registry mode is 'Direct'. Set mode 'Unmanaged' in ModuleConfig deckhouse and wait until it is Ready."
		disabled = "registry: settings cannot be changed when module registry is disabled. Enable it first: set enabled: true in ModuleConfig registry."
		on, off  = "{version: 1, enabled: true}", "{version: 1, enabled: false}"
	)
	for _, tt := range []struct{ name, deckhouse, module, want string }{
		{"in Direct", specDirect, off, needed},
		{"in Proxy", specProxy, off, strings.ReplaceAll(needed, "'Direct'", "'Proxy'")},
		{"in Unmanaged", specUnmanaged, off, ""},
		{"without section", specBare, off, ""},
		{"without ModuleConfig deckhouse", "", off, ""},
		{"enabling", specDirect, on, ""},
		{"neither", specDirect, "{version: 1}", ""},
	} {
		t.Run("disable "+tt.name, func(t *testing.T) {
			if tt.deckhouse != "" {
				store(t, api, moduleConfig(t, "deckhouse", tt.deckhouse))
			}
			t.Run("create", func(t *testing.T) {
				settle(t, api, create(), "registry", tt.module, tt.want)
			})
			t.Run("update", func(t *testing.T) {
				store(t, api, moduleConfig(t, "registry", on))
				settle(t, api, update(), "registry", tt.module, tt.want)
				settle(t, api, serverSideApply(), "registry", tt.module, tt.want)
			})
		})
	}
	t.Run("settings", func(t *testing.T) {
		store(t, api, moduleConfig(t, "registry", off))
		settle(t, api, create(), "deckhouse", specDirect, disabled)
		settle(t, api, create(), "deckhouse", specUnmanaged, disabled)
		settle(t, api, create(), "deckhouse", specSectioned, "")
		store(t, api, moduleConfig(t, "deckhouse", specSectioned))
		settle(t, api, update(), "deckhouse", specDirect, disabled)
		settle(t, api, serverSideApply(), "deckhouse", specDirect, disabled)
		settle(t, api, update(), "deckhouse", specBare, "")
	})
}

// settle is check for policies with a parameter: the API server learns of a
// parameter by a watch, a moment after it was written.
func settle(t *testing.T, api *apiserver.API, w write, name, spec, want string) {
	t.Helper()
	var err error
	try := func() bool {
		err = w.do(t, api.Client(), moduleConfig(t, name, spec))
		return (err == nil) == (want == "")
	}
	waitFor(t.Context(), try)
	check(t, err, want)
}
