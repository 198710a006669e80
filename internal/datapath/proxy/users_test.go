package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

const userNS = "?ns=registry.io"

// mirrorOf is a registry as a user's file describes it.
func mirrorOf(r *testregistry.Registry, change ...func(*upstream.Mirror)) upstream.Mirror {
	m := upstream.Mirror{Upstream: r.Upstream(""), Root: "/v2"}
	for _, c := range change {
		c(&m)
	}
	return m
}

func (s *system) users(hosts ...upstream.UserHost) {
	s.t.Helper()
	if err := s.table.SwapUsers(hosts); err != nil {
		s.t.Fatal(err)
	}
}

func userHost(mirrors ...upstream.Mirror) upstream.UserHost {
	return upstream.UserHost{Name: "registry.io", Mirrors: mirrors}
}

// A mirror has what a layout's upstream cannot have, and what the client sees
// is its own name all the same.
func TestUsersMirrors(t *testing.T) {
	t.Parallel()
	for name, bearer := range map[string]bool{"basic": false, "bearer": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testregistry.New(t, testregistry.Options{TLS: true, Username: "u", Password: "p", Bearer: bearer})
			img := r.PushRandom(t, "mirror/team/tool", "v1", 2, 3000)
			s := start(t, Config{})
			s.users(userHost(mirrorOf(r, func(m *upstream.Mirror) {
				m.CA, m.SkipVerify = "", true
				m.Header = map[string][]string{"x-own": {"1"}, "Range": {"bytes=0-1"}}
				m.Rewrites = []upstream.Rewrite{{Regex: "^other/", Replace: "wrong/"}, {Regex: "^a/(.*)$", Replace: "mirror/$1"}, {Regex: ".*", Replace: "wrong"}}
			})))
			manifest := s.get("/v2/a/team/tool/manifests/v1" + userNS)
			wantStatus(t, manifest, http.StatusOK)
			digest, content := blob(t, img)
			wantBlob(t, s.get("/v2/a/team/tool/blobs/"+digest+userNS, "Authorization", "Basic Y2xpZW50"), content)
			if a := s.get("/v2/a/team/tool/tags/list" + userNS); !strings.Contains(string(a.body), `"name":"a/team/tool"`) {
				t.Errorf("tags: %s", a.body)
			}
			if r.Count(func(q testregistry.Request) bool { return q.Header.Get("Authorization") == "Basic Y2xpZW50" }) > 0 {
				t.Error("the client's credentials went on")
			}
			if r.Count(func(q testregistry.Request) bool {
				return strings.HasPrefix(q.Path, "/v2/") && q.Header.Get("X-Own") == "1"
			}) == 0 {
				t.Error("the user's header was not sent")
			}
			missing := s.get("/v2/a/team/none/manifests/v1" + userNS)
			wantStatus(t, missing, http.StatusNotFound)
			if strings.Contains(string(missing.body), "mirror/") {
				t.Errorf("the mirror's own names are told: %s", missing.body)
			}
			wantStatus(t, s.get("/v2/a/team/tool/manifests/v1?ns=else.io"), http.StatusServiceUnavailable)
		})
	}
}

// What a mirror may not be asked for goes to the next; nobody left is 404, so
// that containerd goes on.
func TestUsersMirrorsCapabilities(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{})
	a.Push(t, "x/tool", "v1", img)
	b.Push(t, "x/tool", "v1", img)
	digest, _ := blob(t, img)
	s := start(t, Config{})
	s.users(userHost(mirrorOf(b, func(m *upstream.Mirror) { m.NoPull = true }), mirrorOf(a, func(m *upstream.Mirror) { m.NoResolve = true })))
	wantStatus(t, s.get("/v2/x/tool/manifests/v1"+userNS), http.StatusOK)
	wantStatus(t, s.get("/v2/x/tool/blobs/"+digest+userNS), http.StatusOK)
	blobs := func(q testregistry.Request) bool { return strings.Contains(q.Path, "/blobs/") }
	if a.Count(blobs) != 1 || a.Count(not(blobs)) != 0 || b.Count(blobs) != 0 {
		t.Error("a mirror was asked for what it is not there for")
	}
	s.users(userHost(mirrorOf(a, func(m *upstream.Mirror) { m.NoResolve = true })))
	wantStatus(t, s.get("/v2/x/tool/manifests/v1"+userNS), http.StatusNotFound)
	s.users(userHost(mirrorOf(a, func(m *upstream.Mirror) { m.Rewrites = []upstream.Rewrite{{Regex: "^x/", Replace: "../../x/"}} })))
	wantStatus(t, s.get("/v2/x/tool/manifests/v1"+userNS), http.StatusNotFound)
}

func not(match func(testregistry.Request) bool) func(testregistry.Request) bool {
	return func(q testregistry.Request) bool { return !match(q) }
}

// A host that the layout names too is the user's first, and the layout's for
// what his mirrors do not serve; the fixed address is never a user's.
func TestUsersMirrorsBesideALayout(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{})
	b.Push(t, "team/b/tool", "old", img)
	s := start(t, Config{})
	u := b.Upstream("team/b")
	err := s.table.Swap(layout.Layout{Schema: layout.Schema, Generation: 1, Routes: []layout.Route{
		{Name: layout.Fixed(), Upstreams: []upstream.Upstream{u}},
		{Name: layout.Name{Host: "registry.io", Path: "team/a"}, Upstreams: []upstream.Upstream{u}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	evil := userHost(mirrorOf(a))
	evil.Name = fixedHost
	s.users(userHost(mirrorOf(a)), evil, upstream.UserHost{Name: upstream.DefaultHost, Mirrors: []upstream.Mirror{mirrorOf(a)}})
	wantStatus(t, s.get("/v2/team/a/tool/manifests/v1"+userNS), http.StatusOK)
	if b.Count(func(testregistry.Request) bool { return true }) > 0 {
		t.Error("the user's mirror was not asked first")
	}
	wantStatus(t, s.get("/v2/team/a/tool/manifests/old"+userNS), http.StatusOK)
	before := a.Count(func(testregistry.Request) bool { return true })
	wantStatus(t, s.get(manifestPath), http.StatusOK)
	wantStatus(t, s.get("/v2/team/a/tool/manifests/v1?ns="+fixedHost), http.StatusNotFound)
	if a.Count(func(testregistry.Request) bool { return true }) != before {
		t.Error("a user took the fixed address")
	}
	wantStatus(t, s.get("/v2/team/a/tool/manifests/v1?ns=any.io"), http.StatusOK)
	if a.Count(func(r testregistry.Request) bool { return strings.Contains(r.Query, "ns=any.io") }) == 0 {
		t.Error("the mirror was not told which registry is meant")
	}
	// One layer breaks in the middle at the user's and goes on from the layout's.
	digest, content := blob(t, img)
	a.SetFaults(testregistry.Faults{CutAfter: 1000, Times: 1})
	wantBlob(t, s.get("/v2/team/a/tool/blobs/"+digest+userNS), content)
	// _default is for hosts without a directory, and those of the layout have one.
	s.users(upstream.UserHost{Name: upstream.DefaultHost, Mirrors: []upstream.Mirror{mirrorOf(a)}})
	a.PushRandom(t, "other/tool", "v1", 1, 100)
	wantStatus(t, s.get("/v2/other/tool/manifests/v1?ns=any.io"), http.StatusOK)
	wantStatus(t, s.get("/v2/other/tool/manifests/v1"+userNS), http.StatusNotFound)
	s.users()
	wantStatus(t, s.get("/v2/other/tool/manifests/v1"+userNS), http.StatusNotFound)
	wantStatus(t, s.get("/v2/team/a/tool/manifests/v1?ns=any.io"), http.StatusNotFound)
}

func TestUsersMirrorsThatCannotBe(t *testing.T) {
	t.Parallel()
	r := testregistry.New(t, testregistry.Options{})
	r.PushRandom(t, "tool", "v1", 1, 100)
	s := start(t, Config{})
	s.users(userHost(mirrorOf(r)))
	for name, change := range map[string]func(*upstream.Mirror){
		"regex":       func(m *upstream.Mirror) { m.Rewrites = []upstream.Rewrite{{Regex: "("}} },
		"CA":          func(m *upstream.Mirror) { m.CA = "none" },
		"certificate": func(m *upstream.Mirror) { m.ClientCerts = []upstream.ClientCert{{Cert: "x", Key: "S3CRET"}} },
	} {
		err := s.table.SwapUsers([]upstream.UserHost{userHost(mirrorOf(r, change))})
		if err == nil || strings.Contains(err.Error(), "S3CRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantStatus(t, s.get("/v2/tool/manifests/v1"+userNS), http.StatusOK)
}
