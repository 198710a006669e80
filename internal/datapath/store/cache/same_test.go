package cache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/store/tags"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// What a client gets is what it would get without a store, the first time and the second.
func TestItIsTheSameAsWithout(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1000)
	digest, _ := content(t, img, 0)
	absent := "sha256:" + strings.Repeat("0", 64)
	for name, tc := range map[string]struct {
		path   string
		header []string
	}{
		"blob":             {blobPath(digest), nil},
		"from":             {blobPath(digest), []string{"Range", "bytes=10-"}},
		"part":             {blobPath(digest), []string{"Range", "bytes=10-19"}},
		"beyond the end":   {blobPath(digest), []string{"Range", "bytes=10-5000"}},
		"the last ones":    {blobPath(digest), []string{"Range", "bytes=-7"}},
		"more than it has": {blobPath(digest), []string{"Range", "bytes=-7000"}},
		"last byte":        {blobPath(digest), []string{"Range", "bytes=999-"}},
		"after the end":    {blobPath(digest), []string{"Range", "bytes=1000-"}},
		"none":             {blobPath(digest), []string{"Range", "bytes=-0"}},
		"backwards":        {blobPath(digest), []string{"Range", "bytes=9-5"}},
		"several":          {blobPath(digest), []string{"Range", "bytes=0-1,5-6"}},
		"no range":         {blobPath(digest), []string{"Range", "lines=1-2"}},
		"same":             {blobPath(digest), []string{"If-None-Match", `"` + digest + `"`}},
		"if it is":         {blobPath(digest), []string{"Range", "bytes=10-19", "If-Range", `"` + digest + `"`}},
		"if it is not":     {blobPath(digest), []string{"Range", "bytes=10-19", "If-Range", `"else"`}},
		"absent blob":      {blobPath(absent), nil},
		"manifest":         {manifestPath(digestOf(t, img)), nil},
		"tag":              {manifestPath("v1"), nil},
		"tag, accepted":    {manifestPath("v1"), []string{"Accept", "application/vnd.docker.distribution.manifest.v2+json"}},
		"absent tag":       {manifestPath("v9"), nil},
		"absent manifest":  {manifestPath(absent), nil},
		"a layer":          {manifestPath(digest), nil},
		"tags":             {"/v2/" + repo + "/tags/list?" + ns, nil},
		"a page of tags":   {"/v2/" + repo + "/tags/list?n=1&" + ns, nil},
		"referrers":        {"/v2/" + repo + "/referrers/" + digestOf(t, img) + "?" + ns, nil},
		"malformed":        {"/v2/" + repo + "/blobs/sha256:1?" + ns, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{}, r.Upstream("team"))
			plain := httptest.NewServer(proxy.New(s.table, proxy.Config{}))
			defer plain.Close()
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodGet} {
				want := ask(t, s.client, method, plain.URL+tc.path, tc.header...)
				for range 2 {
					got := s.do(method, tc.path, tc.header...)
					for _, h := range []string{"Content-Length", "Content-Range", "Docker-Content-Digest", "Content-Type", "Accept-Ranges", "Retry-After", "Link"} {
						length := h == "Content-Length" && want.status >= 400 // an absence is remembered, its text is not
						kind := h == "Content-Type" && name == "several"
						if want.header.Get(h) != "" && got.header.Get(h) != want.header.Get(h) && !length && !kind {
							t.Errorf("%s: %s %q, want %q", method, h, got.header.Get(h), want.header.Get(h))
						}
					}
					same := bytes.Equal(got.body, want.body) || name == "several" && len(got.body) == len(want.body) // with a boundary by chance
					if got.status != want.status || got.err != nil || want.status < 400 && !same {
						t.Errorf("%s: %d, %d bytes, %v; want %d, %d bytes", method, got.status, len(got.body), got.err, want.status, len(want.body))
					}
				}
			}
		})
	}
}

// TestAManifestByRange: a containerd that fetches layers in parts asks for manifests so. They are
// kept, and the registry is asked for one once.
func TestAManifestByRange(t *testing.T) {
	t.Parallel()
	for name, reference := range map[string]func(digest string) string{
		"digest": func(digest string) string { return digest },
		"tag":    func(string) string { return "v1" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, img := one(t, 1000)
			s := start(t, Config{}, r.Upstream("team"))
			digest := digestOf(t, img)
			whole, err := img.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			for round, gone := range []bool{false, false, true} {
				if gone {
					r.Stop()
				}
				got := s.get(manifestPath(reference(digest)), "Range", "bytes=0-")
				if got.status != http.StatusOK || !bytes.Equal(got.body, whole) {
					t.Errorf("round %d: %d, %d bytes", round, got.status, len(got.body))
				}
			}
			asked := r.Count(func(q testregistry.Request) bool {
				return q.Method == http.MethodGet && q.Status < http.StatusBadRequest && strings.Contains(q.Path, "/manifests/")
			})
			if asked != 1 {
				t.Errorf("the registry was asked for it %d times", asked)
			}
		})
	}
}

// What users set up themselves is for those who may ask for it, and is never kept.
func TestUsersMirrors(t *testing.T) {
	t.Parallel()
	platform, _ := one(t, 1000)
	r := testregistry.New(t, testregistry.Options{})
	img := image(t, 1, 1000)
	r.Push(t, "app", "v1", img)
	s := start(t, Config{}, platform.Upstream("team"))
	mirror := upstream.Mirror{Upstream: r.Upstream(""), Root: "/v2"}
	if err := s.table.SwapUsers([]upstream.UserHost{{Name: "docker.io", Mirrors: []upstream.Mirror{mirror}}}); err != nil {
		t.Fatal(err)
	}
	digest, data := content(t, img, 0)
	for n := range 3 {
		s.wantBlob(s.get("/v2/app/blobs/"+digest+"?ns=docker.io"), data)
		if m := s.get("/v2/app/manifests/v1?ns=docker.io"); m.status != http.StatusOK {
			t.Errorf("%d", m.status)
		}
		if got := r.Bytes(digest); got != int64((n+1)*1000) {
			t.Errorf("%d bytes after %d pulls", got, n+1)
		}
	}
	if s.cache.has(digest) || s.cache.has(digestOf(t, img)) {
		t.Error("it is kept")
	}
}

// A tag of one registry says nothing about that of another one; what is by digest does.
func TestAnotherRegistry(t *testing.T) {
	t.Parallel()
	a, img := one(t, 1000)
	b := testregistry.New(t, testregistry.Options{})
	other := image(t, 1, 1000)
	b.Push(t, "team/tool", "v1", other)
	s := start(t, Config{}, a.Upstream("team"))
	tag := func() string { return s.get(manifestPath("v1")).header.Get("Docker-Content-Digest") }
	digest, data := content(t, img, 0)
	if s.wantBlob(s.get(blobPath(digest)), data); tag() != digestOf(t, img) {
		t.Error("not that of the first")
	}
	s.swap(2, b.Upstream("team"))
	if tag() != digestOf(t, other) {
		t.Error("not that of the second")
	}
	missing, onlyThere := content(t, other, 0)
	s.swap(1, a.Upstream("team"))
	if got := s.get(blobPath(missing)); got.status != http.StatusNotFound {
		t.Errorf("%d", got.status)
	}
	s.swap(2, b.Upstream("team"))
	s.wantBlob(s.get(blobPath(missing)), onlyThere)
	s.wantBlob(s.get(blobPath(digest)), data)
	if b.Bytes(digest) != 0 {
		t.Error("the second was asked for what is there")
	}
	renewed := a.Upstream("team")
	renewed.Credentials.Password = "of tomorrow"
	a.Stop()
	s.swap(3, renewed)
	if tag() != digestOf(t, img) {
		t.Error("with other credentials it is the same registry")
	}
}

// What is in use stays, whatever else is pulled.
func TestPinsStay(t *testing.T) {
	t.Parallel()
	r := testregistry.New(t, testregistry.Options{})
	used := image(t, 1, 100_000)
	r.Push(t, "team/tool", "v1", used)
	s := start(t, Config{Quota: 500_000}, r.Upstream("team"))
	digest, data := content(t, used, 0)
	s.cache.Pin([]string{digest, digestOf(t, used)})
	s.get(manifestPath("v1"))
	s.wantBlob(s.get(blobPath(digest)), data)
	s.stored(digest)
	for range 8 {
		img := image(t, 1, 100_000)
		r.Push(t, "team/tool", "other", img)
		d, bytesOfIt := content(t, img, 0)
		s.wantBlob(s.get(blobPath(d)), bytesOfIt)
		s.stored(d)
	}
	if u := s.cache.Usage(); u.Kept+u.Coming > 500_000 || u.Evicted.Blobs == 0 {
		t.Errorf("%+v", u)
	}
	if err := s.cache.Tick(); err != nil {
		t.Error(err)
	}
	r.Stop()
	s.restart()
	s.wantBlob(s.get(blobPath(digest)), data)
	if m := s.get(manifestPath("v1")); m.status != http.StatusOK {
		t.Errorf("%d", m.status)
	}
	place := tags.Key{Place: strings.Repeat("0", 16), Repository: "a", Tag: "b"}
	if err := s.cache.tags.Note(place, tags.Meaning{Digest: "sha256:" + someHex}); err != nil {
		t.Fatal(err)
	}
	if err := s.cache.Tick(); err != nil {
		t.Error(err)
	}
	if _, known := s.cache.tags.Get(place); known {
		t.Error("a tag is kept of what could not be served")
	}
}

// That one client asks for what is not there says nothing about what others ask for.
func TestARangeOfOthers(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1000)
	digest, data := content(t, img, 0)
	s := start(t, Config{}, r.Upstream("team"))
	s.get(manifestPath("v1"))
	r.SetFaults(testregistry.Faults{Match: blobs, Latency: time.Second})
	together(5, func(i int) {
		if i == 0 {
			if got := s.get(blobPath(digest), "Range", "bytes=5000-"); got.status != http.StatusRequestedRangeNotSatisfiable {
				t.Errorf("%d", got.status)
			}
			return
		}
		wait(t, 300*time.Millisecond)
		s.wantBlob(s.get(blobPath(digest)), data)
	})
}

// A client that reads less than what is known asks the registry itself: it may have another form.
func TestWhatTheClientAccepts(t *testing.T) {
	t.Parallel()
	r, _ := one(t, 1000)
	s := start(t, Config{}, r.Upstream("team"))
	for n := range 3 {
		s.get(manifestPath("v1"))
		s.get(manifestPath("v1"), "Accept", "application/vnd.oci.image.index.v1+json;q=0.5, text/plain")
		said := func(q testregistry.Request) bool {
			return strings.Contains(q.Header.Get("Accept"), "text/plain") && served(q)
		}
		if got := r.Count(said); got != n+1 {
			t.Errorf("it was asked %d times in %d", got, n+1)
		}
	}
	if got := r.Count(func(q testregistry.Request) bool { return served(q) && !q.Token }); got != 4 {
		t.Errorf("%d requests", got)
	}
}
