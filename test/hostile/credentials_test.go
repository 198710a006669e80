package hostile

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/d8-registry/registry/internal/control/pullsecret"
	"github.com/d8-registry/registry/internal/control/settings"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// TestCredentialsArriveAsTheyAre sends credentials as people have them all the way:
// from ModuleConfig through the layout and the data path to a registry, and into the
// pull secret as kubelet reads it. Nobody changes a byte.
func TestCredentialsArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, want := range []upstream.Credentials{
		{Username: "_json_key", Password: "{\n\t\"private_key\": \"-----BEGIN\\n+/=\\n\"\r\n}\n"},
		{Username: "_json_key_base64", Password: strings.Repeat("ewogICJ0eXBl", 260)},
		{Username: "org+robot", Password: "p:q:"}, {Username: "robot$name", Password: `$(id) ${x} a,b=c "\'#{{ü}}` + "\U0001F511"},
		{Username: "00000000-0000-0000-0000-000000000000", Password: strings.Repeat("x", 4096)}, {Username: "ü", Password: " p "},
	} {
		var user, password string
		registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var shown bool
			if user, password, shown = r.BasicAuth(); !shown {
				w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.WriteHeader(http.StatusNotFound)
		}))
		t.Cleanup(registry.Close)
		u := asked(t, strings.TrimPrefix(registry.URL, "http://")+"/d8", want)
		table := routes.NewTable(nil)
		if err := table.Swap(published(t, u)); err != nil {
			t.Fatal(err)
		}
		path := proxy.New(table, proxy.Config{Log: slog.New(slog.DiscardHandler), DefaultHost: layout.Fixed().Host})
		path.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+layout.Fixed().Host+"/v2/system/deckhouse/a/manifests/v1", nil))
		if user != want.Username || password != want.Password {
			t.Errorf("%s: the registry is shown other credentials (%d and %d bytes)", want.Username, len(user), len(password))
		}
		var doc state.Document
		doc.Desired.Registry = switchover.Target{Mode: switchover.Unmanaged, Upstream: u}
		doc.Desired.PullSecrets = []switchover.Target{doc.Desired.Registry}
		v := fleet.Empty()
		v.Doc = doc
		var config struct {
			Auths map[string]struct{ Auth string }
		}
		if err := json.Unmarshal(pullsecret.RegistryChange(v).Data[corev1.DockerConfigJsonKey], &config); err != nil {
			t.Fatal(err)
		}
		// kubelet reads auth alone, up to its first colon.
		if got, err := upstream.ParseAuth(config.Auths[u.Host].Auth); err != nil || got != want {
			t.Errorf("%s: kubelet reads other credentials: %v", want.Username, err)
		}
	}
	note(t, network, "a key of several lines, robots with + and $, 4 KiB, quotes", "every byte arrives at the registry and in the pull secret")
}

// asked is what ModuleConfig asks for, as the controller reads it.
func asked(t *testing.T, repo string, c upstream.Credentials) upstream.Upstream {
	t.Helper()
	data, err := json.Marshal(map[string]any{"registry": map[string]any{"mode": "Direct",
		"direct": map[string]string{"imagesRepo": repo, "scheme": "HTTP", "username": c.Username, "password": c.Password}}})
	if err != nil {
		t.Fatal(err)
	}
	spec := settings.Parse(data)
	if spec.Problem != "" {
		t.Fatal(spec.Problem)
	}
	return spec.Upstream
}

// published is the layout as a node reads it.
func published(t *testing.T, u upstream.Upstream) layout.Layout {
	t.Helper()
	data, err := layout.Encode(layout.Layout{Schema: layout.Schema, Generation: 1, Mode: "Direct", Target: u,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(u)}, []upstream.Upstream{u})})
	if err != nil {
		t.Fatal(err)
	}
	l, err := layout.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
