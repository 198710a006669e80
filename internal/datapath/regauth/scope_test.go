package regauth

import (
	"net/http"
	"net/url"
	"testing"
)

// TestSlots: the name of a repository may hold any word of the API, and what is
// learned for one is used for no other.
func TestSlots(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ api, path, repository, scope string }{
		{"/v2", "/v2/", "", ""},
		{"/v2", "/v2/a/manifests/v1", "", "repository:a:pull"},
		{"/v2", "/v2/x/manifests/podinfo/blobs/sha256:ab", "", "repository:x/manifests/podinfo:pull"},
		{"/v2", "/v2/tags/list/tags/list", "", "repository:tags/list:pull"},
		{"/below/v2", "/below/v2/a/b/referrers/sha256:ab", "", "repository:a/b:pull"},
		{"/v2", "/storage/blobs/sha256:ab", "", ""},
		{"/v2", "/artifactory/api/docker/hub/v2/a/manifests/v1", "a", "repository:a:pull"},
		{"/v2", "/storage/ab/data", "x/blobs/y", "repository:x/blobs/y:pull"},
	} {
		transport := &Transport{api: tc.api}
		req := (&http.Request{URL: &url.URL{Path: tc.path}}).WithContext(WithRepository(t.Context(), tc.repository))
		if got := transport.slotOf(req); got.scope != tc.scope {
			t.Errorf("%s: scope %q, want %q", tc.path, got.scope, tc.scope)
		}
	}
	keys := map[string]bool{}
	for _, path := range []string{"/v2/a/manifests/v1", "/hub/v2/a/manifests/v1", "/v2/b/manifests/v1", "/storage/x/data", "/storage/y/data"} {
		keys[(&Transport{api: "/v2"}).slotOf(&http.Request{URL: &url.URL{Path: path}}).key] = true
	}
	// Where a registry redirects to, it may know the same repository by another name.
	for _, path := range []string{"/v2/a/manifests/v1", "/hub/v2/a/manifests/v1"} {
		req := (&http.Request{URL: &url.URL{Path: path}}).WithContext(WithRepository(t.Context(), "c"))
		keys[(&Transport{api: "/v2"}).slotOf(req).key] = true
	}
	if len(keys) != 7 {
		t.Errorf("several things share a slot: %v", keys)
	}
}

func TestUnionOfScopes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ own, challenged, want string }{
		{"repository:a:pull", "", "repository:a:pull"},
		{"repository:a:pull", "repository:a:pull", "repository:a:pull"},
		{"repository:a:pull", "repository:a:pull,push", "repository:a:pull,push"},
		{"repository:a:pull", "repository:hub/a:pull", "repository:a:pull repository:hub/a:pull"},
		{"", "repository:a:pull  repository:b:pull", "repository:a:pull repository:b:pull"},
		{"o", "1 2 3 4 5 6", "o 1 2 3 4"},
	} {
		if got := union(tc.own, tc.challenged); got != tc.want {
			t.Errorf("%q and %q: %q, want %q", tc.own, tc.challenged, got, tc.want)
		}
	}
}

func TestSameServer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"http://r.example.com", "https://r.example.com", true},
		{"http://r.example.com:80", "https://R.example.com:443/v2/", true},
		{"https://r.example.com", "http://r.example.com", false},
		{"http://r.example.com:5000", "https://r.example.com:5000", false},
		{"http://r.example.com", "https://r.example.com:8443", false},
		{"http://r.example.com", "https://other.example.com", false},
		{"https://r.example.com", "https://r.example.com:443", true},
	} {
		from, err := url.Parse(tc.from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := url.Parse(tc.to)
		if err != nil {
			t.Fatal(err)
		}
		if got := SameServer(from, to); got != tc.want {
			t.Errorf("%s to %s: %t", tc.from, tc.to, got)
		}
	}
}
