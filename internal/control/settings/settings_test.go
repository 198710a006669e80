package settings

import (
	"strings"
	"testing"
	"time"

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
		{name: "a mode of another version", settings: `{"registry":{"mode":"Local"}}`, problem: "registry: mode 'Local' is not supported yet; expected 'Direct', 'Proxy' or 'Unmanaged'."},
		{name: "no mode of any", settings: `{"registry":{"mode":"Managed"}}`, problem: `Unknown registry mode: "Managed"; expected 'Direct', 'Proxy' or 'Unmanaged'.`},
		{name: "a mode in small letters", settings: `{"registry":{"mode":"proxy","proxy":{"imagesRepo":"a.io/b"}}}`, problem: `Unknown registry mode: "proxy"; expected`},
		{name: "a field of another version", settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"a/b","secretRef":"x"}}}`, problem: `unknown field "secretRef"`},
		{name: "the mode in other letters", settings: `{"registry":{"Mode":"Direct"}}`, problem: `unknown field "Mode"`},
		{name: "a field in other letters", settings: `{"registry":{"mode":"Direct","direct":{"imagesrepo":"a/b"}}}`, problem: `unknown field "imagesrepo"`},
		{name: "checkMode", settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"a/b","checkMode":"Relax"}}}`, problem: `unknown field "checkMode"`},
		{name: "local", settings: `{"registry":{"mode":"Unmanaged","local":null}}`, problem: `unknown field "local"`},
		{name: "an empty mode", settings: `{"registry":{"mode":""}}`, problem: `Unknown registry mode: ""`},
		{name: "no mode, with Direct's section", settings: `{"registry":{"direct":{"imagesRepo":"a/b"}}}`, problem: "'direct' section must be omitted"},
		{name: "whatever is in it", settings: `{"registry":{"mode":"Local","proxy":{"other":1}}}`, problem: "mode 'Local' is not supported yet"},
		{name: "a section of another type", settings: `{"registry":{"mode":"Direct","direct":["SECRET"]}}`, problem: "registry.direct: an object is expected."},
		{name: "Proxy's section, of any type", settings: `{"registry":{"mode":"Unmanaged","proxy":"x"}}`, problem: "'proxy' section must be omitted"},
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

// TestParseProxy: its section has the fields of Direct's, with the same refusals, and ttl.
func TestParseProxy(t *testing.T) {
	t.Parallel()
	a := upstream.Upstream{Host: "a.io", Path: "b", Scheme: upstream.HTTPS}
	licensed := a
	licensed.Credentials = upstream.Credentials{Username: "license-token", Password: "KEY"}
	proxy := func(fields string) string {
		return `{"registry":{"mode":"Proxy","proxy":{"imagesRepo":"a.io/b"` + fields + `}}}`
	}
	for _, c := range []struct {
		name, settings string
		want           switchover.Spec
		problem        string
	}{
		{name: "least", settings: proxy(``), want: switchover.Spec{Mode: switchover.ModeProxy, Upstream: a}},
		{name: "license and ttl", settings: proxy(`,"license":"KEY","ttl":"1h30m10s"`),
			want: switchover.Spec{Mode: switchover.ModeProxy, Upstream: licensed, TTL: time.Hour + 30*time.Minute + 10*time.Second}},
		{name: "least ttl", settings: proxy(`,"ttl":"5m"`), want: switchover.Spec{Mode: switchover.ModeProxy, Upstream: a, TTL: 5 * time.Minute}},
		{name: "short ttl", settings: proxy(`,"ttl":"4m59s"`), problem: "registry.proxy: 'ttl' should be at least 5 minutes."},
		{name: "no ttl", settings: proxy(`,"ttl":"0s"`), problem: "registry.proxy: 'ttl' should be at least 5 minutes."},
		{name: "empty ttl", settings: proxy(`,"ttl":""`), problem: `registry.proxy: invalid ttl format ""`},
		{name: "days", settings: proxy(`,"ttl":"7d"`), problem: `registry.proxy: invalid ttl format "7d"`},
		{name: "a fraction", settings: proxy(`,"ttl":"1.5h"`), problem: "invalid ttl format"},
		{name: "longest ttl", settings: proxy(`,"ttl":"999999h"`), want: switchover.Spec{Mode: switchover.ModeProxy, Upstream: a, TTL: 999999 * time.Hour}},
		{name: "a long ttl", settings: proxy(`,"ttl":"1000000h"`), problem: `registry.proxy: 'ttl' "1000000h" is too long: expected at most six digits in each of its numbers.`},
		{name: "more than can be reckoned with", settings: proxy(`,"ttl":"99999999999999h"`), problem: "is too long"},
		{name: "a megabyte of ttl", settings: proxy(`,"ttl":"` + strings.Repeat("1", 1<<20) + `h"`), problem: `invalid ttl format "` + strings.Repeat("1", 40) + `": expected`},
		{name: "a number", settings: proxy(`,"ttl":300`), problem: "ttl: a string is expected"},
		{name: "without its section", settings: `{"registry":{"mode":"Proxy"}}`, problem: "registry: when mode is 'Proxy', 'proxy' section must be specified."},
		{name: "null", settings: `{"registry":{"mode":"Proxy","proxy":null}}`, problem: "registry: when mode is 'Proxy', 'proxy' section must be specified."},
		{name: "without a registry", settings: `{"registry":{"mode":"Proxy","proxy":{}}}`, problem: "registry.proxy: imagesRepo: 'imagesRepo' is required."},
		{name: "in another mode", settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"a.io/b"},"proxy":{}}}`, problem: "registry: when mode is not 'Proxy', 'proxy' section must be omitted."},
		{name: "with Direct's", settings: `{"registry":{"mode":"Proxy","direct":{},"proxy":{}}}`, problem: "registry: when mode is not 'Direct', 'direct' section must be omitted."},
		{name: "with Unmanaged's", settings: `{"registry":{"mode":"Proxy","unmanaged":{},"proxy":{}}}`, problem: "registry: when mode is not 'Unmanaged', 'unmanaged' section must be omitted."},
		{name: "a ttl in Direct", settings: `{"registry":{"mode":"Direct","direct":{"imagesRepo":"a.io/b","ttl":"1h"}}}`, problem: `unknown field "ttl"`},
		{name: "checkMode", settings: proxy(`,"checkMode":"Relax"`), problem: `unknown field "checkMode"`},
		{name: "half an account", settings: proxy(`,"username":"u"`), problem: "registry.proxy: "},
		{name: "both", settings: proxy(`,"license":"SECRET","username":"u","password":"SECRET"`), problem: "registry.proxy: "},
	} {
		got := Parse([]byte(c.settings))
		if c.problem == "" {
			if got != c.want {
				t.Errorf("%s: got %+v", c.name, got)
			}
			continue
		}
		if got.Mode != "" || !strings.HasPrefix(got.Problem, "ModuleConfig deckhouse: ") || !strings.Contains(got.Problem, c.problem) || strings.Contains(got.Problem, "SECRET") {
			t.Errorf("%s: got %+v, want %q", c.name, got, c.problem)
		}
	}
}
