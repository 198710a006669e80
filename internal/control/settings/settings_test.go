package settings

import (
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/upstream"
)

func TestParse(t *testing.T) {
	t.Parallel()
	ee := upstream.Upstream{
		Host: "registry.deckhouse.io", Path: "deckhouse/ee", Scheme: upstream.HTTPS,
		Credentials: upstream.Credentials{Username: "license-token", Password: "KEY"},
	}
	for _, c := range []struct {
		name, settings string
		want           switchover.Spec
		problem        string
	}{
		{name: "the seed's example",
			settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"registry.deckhouse.io/deckhouse/ee","scheme":"HTTPS","license":"KEY"}}}`,
			want:     switchover.Spec{Mode: switchover.Direct, Upstream: ee}},
		{name: "Unmanaged", settings: `{"registry":{"mode":"Unmanaged"}}`, want: switchover.Spec{Mode: switchover.Unmanaged}},
		{name: "an empty section is the default", settings: `{"registry":{}}`, want: switchover.Spec{Mode: switchover.Unmanaged}},
		{name: "no settings", settings: ``, problem: "no section spec.settings.registry"},
		{name: "no section", settings: `{"other":1}`, problem: "no section spec.settings.registry"},
		{name: "null", settings: `{"registry":null}`, problem: "no section spec.settings.registry"},
		{name: "not an object", settings: `[]`, problem: "spec.settings is no object"},
		{name: "Direct without its section", settings: `{"registry":{"mode":"Direct"}}`, problem: "when mode is 'Direct', 'direct' section must be specified."},
		{name: "Unmanaged with Direct's section", settings: `{"registry":{"mode":"Unmanaged","direct":{"imagesRepo":"a/b"}}}`, problem: "when mode is not 'Direct', 'direct' section must be omitted."},
		{name: "a mode of another version", settings: `{"registry":{"mode":"Proxy","proxy":{}}}`, problem: `Unknown registry mode: "Proxy"`},
		{name: "a field of another version", settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"a/b","secretRef":"x"}}}`, problem: `unknown field "secretRef"`},
		{name: "the mode in other letters", settings: `{"registry":{"Mode":"Direct"}}`, problem: `unknown field "Mode"`},
		{name: "a field in other letters", settings: `{"registry":{"mode":"Direct","direct":{"imagesrepo":"a/b"}}}`, problem: `unknown field "imagesrepo"`},
		{name: "checkMode", settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"a/b","checkMode":"Relax"}}}`, problem: `unknown field "checkMode"`},
		{name: "local", settings: `{"registry":{"mode":"Unmanaged","local":null}}`, problem: `unknown field "local"`},
		{name: "an empty mode", settings: `{"registry":{"mode":""}}`, problem: `Unknown registry mode: ""`},
		{name: "no mode, with Direct's section", settings: `{"registry":{"direct":{"imagesRepo":"a/b"}}}`, problem: "'direct' section must be omitted"},
		{name: "Proxy's section", settings: `{"registry":{"mode":"Unmanaged","proxy":{}}}`, problem: "'proxy' section must be omitted"},
		{name: "wrong type", settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"a/b","password":12345}}}`, problem: "password: a string is expected"},
		{name: "a bad address", settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"https://a/b"}}}`, problem: "registry.direct: imagesRepo"},
		{name: "license and password", settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"a.io/b","license":"SECRET","username":"u","password":"SECRET"}}}`, problem: "registry.direct"},
	} {
		got := Parse([]byte(c.settings))
		if c.problem == "" {
			if got != c.want {
				t.Errorf("%s: got %v, problem %q", c.name, got.Upstream, got.Problem)
			}
			continue
		}
		if got.Mode != "" || !strings.Contains(got.Problem, c.problem) || !strings.HasPrefix(got.Problem, "ModuleConfig deckhouse: ") {
			t.Errorf("%s: got %q, want %q", c.name, got.Problem, c.problem)
		}
		if strings.Contains(got.Problem, "SECRET") || strings.Contains(got.Problem, "12345") {
			t.Errorf("%s: the problem quotes a secret: %q", c.name, got.Problem)
		}
	}
}
