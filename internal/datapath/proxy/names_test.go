package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// Which names are routed, and to whom.
func TestRouting(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t, testregistry.Options{})
	a.PushRandom(t, "team/a", "v1", 1, 10)
	b.PushRandom(t, "tool", "v1", 1, 10)
	s := start(t, Config{DefaultHost: fixedHost})
	err := s.table.Swap(layout.Layout{Schema: 1, Generation: 1, Routes: []layout.Route{
		{Name: layout.Fixed(), Upstreams: []upstream.Upstream{a.Upstream("team/a")}},
		{Name: layout.Name{Host: "real.example.com", Path: "team"}, Upstreams: []upstream.Upstream{a.Upstream("team")}},
		{Name: layout.Name{Host: "real.example.com", Path: "team/b"}, Upstreams: []upstream.Upstream{b.Upstream("team/b")}},
		{Name: layout.Name{Host: "bare.example.com"}, Upstreams: []upstream.Upstream{b.Upstream("")}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path, host string
		status     int
		by         *testregistry.Registry
	}{
		{"/v2/system/deckhouse/tool/manifests/v1?" + ns, "", 200, a},
		{"/v2/system/deckhouse/manifests/v1?" + ns, "", 200, a},
		{"/v2/system/deckhouse/tool/manifests/v1", fixedHost, 200, a},
		{"/v2/system/deckhouse/tool/manifests/v1", "Registry.d8-system.SVC:5001", 200, a},
		{"/v2/system/deckhouse/tool/manifests/v1", "10.96.0.17:5001", 200, a},
		{"/v2/system/deckhouse/tool/manifests/v1", "registry.d8-system.svc.cluster.local:5001", 200, a},
		{"/v2/system/deckhouse/tool/manifests/v1?ns=other.example.com", fixedHost, 404, nil},
		{"/v2/system/deckhousefoo/tool/manifests/v1?" + ns, "", 404, nil},
		{"/v2/system/manifests/v1?" + ns, "", 404, nil},
		{"/v2/team/a/tool/manifests/v1?" + ns, "", 404, nil},
		{"/v2/team/a/tool/manifests/v1?ns=real.example.com", "", 200, a},
		{"/v2/team/b/tool/manifests/v1?ns=real.example.com", "", 200, b},
		{"/v2/teams/tool/manifests/v1?ns=real.example.com", "", 404, nil},
		{"/v2/tool/manifests/v1?ns=bare.example.com", "", 200, b},
		{"/v2/tool/manifests/v1", "bare.example.com", 200, b},
	} {
		a.ResetLog()
		b.ResetLog()
		got := s.get(tc.path, "Host", tc.host)
		if got.status != tc.status {
			t.Errorf("%s at %q: status %d, want %d: %.200q", tc.path, tc.host, got.status, tc.status, got.body)
			continue
		}
		if tc.by == nil {
			if len(a.Requests())+len(b.Requests()) > 0 || got.errors(t)[0].Code != oci.CodeNameUnknown {
				t.Errorf("%s: asked somebody, or %q", tc.path, got.body)
			}
		} else if len(tc.by.Requests()) == 0 {
			t.Errorf("%s: the other registry served", tc.path)
		}
	}
}

func TestWithoutDefaultHostNothingIsGuessed(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	wantStatus(t, s.get("/v2/"+repo+"/manifests/v1"), http.StatusNotFound)
	wantStatus(t, s.get("/v2/"+repo+"/manifests/v1", "Host", fixedHost), http.StatusOK)
}

func TestTagsAndLinksHaveTheClientsName(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	for _, tag := range []string{"v2", "v3", "v4"} {
		a.Push(t, "team/a/tool", tag, img)
	}
	s := start(t, Config{}, a.Upstream("team/a"))
	got := s.get("/v2/" + repo + "/tags/list?n=2&" + ns)
	wantStatus(t, got, http.StatusOK)
	if !strings.Contains(string(got.body), "v1") {
		t.Errorf("tags %s", got.body)
	}
	if last := a.Requests()[len(a.Requests())-1]; last.Query != "n=2" {
		t.Errorf("query %q", last.Query)
	}
	next2 := `</v2/` + repo + `/tags/list?last=v2&n=2&` + ns + `>; rel="next"`
	for _, tc := range []struct{ link, want string }{
		{`</v2/team/a/tool/tags/list?last=v2&n=2>; rel="next"`, next2},
		{`<https://up.example.com/v2/team/a/tool/tags/list?n=2&last=v2>; rel="next"`, next2},
		// Relative to the list (RFC 8288), and of a registry that does not know its path.
		{`<?last=v2&n=2>; rel="next"`, next2}, {`<list?last=v2&n=2>; rel=next`, next2}, {`</tags/list?n=2&last=v2>; REL = "next"`, next2},
		{`<../tags/list?n=2&last=v2>`, next2}, {`</v2/other/tool/tags/list?n=2&last=v2>; rel="next"`, next2},
		{`<?n=1>; rel="prev first"; title="a, b", <?last=v2&n=2>; anchor="/v2/team/a/tool"; rel="next"`, next2 + ` </v2/` + repo + `/tags/list?n=1&` + ns + `>; rel="prev first"`},
		{`</style.css>; rel="preload"`, ""},
		{`<https://evil.example.com/>; rel="next"`, "502"}, {`<>`, "502"},
		{`garbage`, "502"}, {`<%zz`, "502"}, {`<http://[::1>; rel="next"`, "502"}, {`<?n=1>; rel="prev", </v2/>; rel="next"`, "502"},
		{`<?last=` + strings.Repeat("x", oci.MaxQuery) + `>; rel="next"`, "502"},
	} {
		a.SetFaults(testregistry.Faults{Header: http.Header{"Link": {tc.link}}})
		got := s.get("/v2/" + repo + "/tags/list?n=2&" + ns)
		if said := strings.Join(got.header.Values("Link"), " "); got.status == http.StatusOK && said != tc.want || got.status != http.StatusOK && tc.want != "502" {
			t.Errorf("%.80s: %d %q, want %q", tc.link, got.status, said, tc.want)
		}
	}
	// Two lines of the header are one list.
	a.SetFaults(testregistry.Faults{Header: http.Header{"Link": {`<?n=1>; rel="prev"`, `<?last=v2&n=2>; rel="next"`}}})
	if got := s.get("/v2/" + repo + "/tags/list?n=2&" + ns).header.Get("Link"); got != next2 {
		t.Errorf("the first link is %s", got)
	}
}

// The body of tags/list carries the name too.
func TestTagsBodyHasTheClientsName(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	got := s.get("/v2/" + repo + "/tags/list?" + ns)
	wantStatus(t, got, http.StatusOK)
	if strings.Contains(string(got.body), "team/a") || !strings.Contains(string(got.body), `"name":"`+repo+`"`) {
		t.Errorf("body %s", got.body)
	}
}

func TestErrorBodiesHaveTheClientsName(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	a.SetFaults(testregistry.Faults{Status: 404, Message: "repository team/a/tool not found, scope repository:team/a/tool:pull"})
	got := s.get(manifestPath)
	wantStatus(t, got, http.StatusNotFound)
	if want := "repository " + repo + " not found, scope repository:" + repo + ":pull"; got.errors(t)[0].Message != want {
		t.Errorf("message %q, want %q", got.errors(t)[0].Message, want)
	}
	var nested any = map[string]any{"a": []any{"x team/a/tool", 1.0}}
	if got := renameIn(nested, "team/a/tool", repo).(map[string]any)["a"].([]any)[0]; got != "x "+repo { //nolint:forcetypeassert // made above
		t.Errorf("detail %v", got)
	}
}

func TestOnlyPulls(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	wantStatus(t, s.get("/v2/"), http.StatusOK)
	wantStatus(t, s.do(http.MethodHead, "/v2/"), http.StatusOK)
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/v2/system/deckhouse/blobs/uploads/", 405},
		{"PUT", "/v2/system/deckhouse/manifests/v1", 405},
		{"DELETE", "/v2/system/deckhouse/manifests/v1", 405},
		{"PATCH", "/v2/system/deckhouse/blobs/uploads/1", 405},
		{"POST", "/v2/", 405},
		{"GET", "/v2/_catalog", 405},
		{"GET", "/v2/system/deckhouse/blobs/uploads/1", 405},
		{"GET", "/v2/system/deckhouse/other/v1", 405},
		{"GET", "/v2/system/deckhouse/blobs/latest", 400},
		{"GET", "/v2/System/manifests/v1", 400},
		{"GET", "/v2/a%2F..%2Fb/manifests/v1", 400},
		{"GET", "/v2/a/manifests/v1?ns=%0d%0a", 400},
		{"GET", "/v2/a/manifests/v1?ns=user@host", 400},
		{"GET", "/v2/a/manifests/" + strings.Repeat("x", 129), 400},
		{"GET", "/", 404}, {"GET", "/token", 404},
	} {
		got := s.do(tc.method, tc.path)
		if got.status != tc.status {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, got.status, tc.status)
		}
		got.errors(t)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	if name, ok := s.table.Match(fixedHost, repo); !ok || name != layout.Fixed() {
		t.Errorf("%v %v", name, ok)
	}
	if _, ok := s.table.Match(fixedHost, "system"); ok {
		t.Error("matched half a path")
	}
}
