package oci

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]Pull{
		"/v2/a/b/manifests/v1?ns=Reg.Example.com:5000":        {Host: "reg.example.com:5000", Repository: "a/b", Kind: KindManifests, Reference: "v1", Namespaced: true},
		"/v2/a/manifests/" + someDigest:                       {Host: "example.com", Repository: "a", Kind: KindManifests, Reference: someDigest},
		"/v2/a/blobs/" + someDigest + "?ns=[fd00::1]:5001":    {Host: "[fd00::1]:5001", Repository: "a", Kind: KindBlobs, Reference: someDigest, Namespaced: true},
		"/v2/a/tags/list?n=5&last=x&ns=r":                     {Host: "r", Repository: "a", Kind: KindTags, Namespaced: true, Query: "last=x&n=5"},
		"/v2/a/referrers/" + someDigest + "?artifactType=x/y": {Host: "example.com", Repository: "a", Kind: KindReferrers, Reference: someDigest, Query: "artifactType=x%2Fy"},
		"/v2/blobs/manifests/manifests/blobs":                 {Host: "example.com", Repository: "blobs/manifests", Kind: KindManifests, Reference: "blobs"},
	} {
		got, err := Parse(httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", target, got, err)
		}
	}
}
