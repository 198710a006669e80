package routes

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	ns         = "ns=registry.d8-system.svc%3A5001"
	someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// TestAskedWhereTheRegistryIs: nothing answers at Docker Hub's name in image
// references, and its repositories without a namespace have another one there.
func TestAskedWhereTheRegistryIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ host, path, want string }{
		{"docker.io", "team", "https://registry-1.docker.io/v2/team/tool/manifests/v1"},
		{"docker.io", "", "https://registry-1.docker.io/v2/library/tool/manifests/v1"},
		{"registry.hub.docker.com", "", "https://registry-1.docker.io/v2/tool/manifests/v1"},
		{"docker.io.example.com", "", "https://docker.io.example.com/v2/tool/manifests/v1"},
		{"[fd00::1]:5000", "d8", "https://[fd00::1]:5000/v2/d8/tool/manifests/v1"},
	} {
		tg, err := newTarget(upstream.Upstream{Host: c.host, Path: c.path, Scheme: upstream.HTTPS}, nil)
		if err != nil {
			t.Fatal(err)
		}
		req := (&http.Request{Method: http.MethodGet, Host: "x", Header: http.Header{}, URL: &url.URL{Path: "/v2/system/deckhouse/tool/manifests/v1"}}).WithContext(t.Context())
		pull, err := oci.Parse(req)
		if err != nil {
			t.Fatal(err)
		}
		out, reason := tg.Request(req, pull, layout.Fixed())
		if out == nil || out.URL.String() != c.want {
			t.Errorf("%s/%s is asked by %v (%s), want %s", c.host, c.path, out, reason, c.want)
		}
	}
}

// Whatever comes in, what goes out is one path of the upstream below its own
// prefix.
func FuzzParse(f *testing.F) {
	for _, seed := range [][3]string{
		{"/v2/system/deckhouse/tool/manifests/v1", ns, "10.0.0.1"},
		{"/v2/a/../b/blobs/" + someDigest, "ns=%00", "x"},
		{"/v2/a/tags/list", "n=1&ns=a&ns=b", "[::1]:5001"},
		{"/v2//manifests/x", "ns=a/b", ""},
		{"/v2/a%2f..%2fb/manifests/x", "ns=http://x", "a:b@c"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	tg := &Target{upstream: upstream.Upstream{Host: "up.example.com", Scheme: upstream.HTTPS, Path: "team/a"}, paths: layoutMapping(upstream.Upstream{Path: "team/a"})}
	f.Fuzz(func(t *testing.T, path, query, host string) {
		req := (&http.Request{Method: http.MethodGet, Host: host, Header: http.Header{}, URL: &url.URL{Path: path, RawQuery: query}}).WithContext(t.Context())
		p, err := oci.Parse(req)
		if err != nil {
			return
		}
		if strings.ContainsAny(p.Host+p.Repository+p.Reference, "\x00\r\n %?#\\") || strings.Contains(p.Repository, "..") {
			t.Fatalf("%+v", p)
		}
		out, _ := tg.Request(req, p, layout.Name{})
		if out == nil {
			return
		}
		if !strings.HasPrefix(out.URL.Path, "/v2/team/a/") || out.URL.Host != "up.example.com" || out.URL.Query().Has("ns") {
			t.Fatalf("%q goes to %s", path, out.URL)
		}
		if again, err := url.Parse(out.URL.String()); err != nil || again.Path != out.URL.Path {
			t.Fatalf("%s does not survive: %v", out.URL, err)
		}
	})
}
