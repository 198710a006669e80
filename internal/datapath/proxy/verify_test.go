package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

// A manifest by digest with wrong or too few bytes comes from the next
// upstream; containerd would fail the pull.
func TestManifestsByDigestAreVerified(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]testregistry.Faults{
		"wrong bytes": {WrongBytes: true},
		"cut":         {CutAfter: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, img := pair(t, testregistry.Options{})
			s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
			a.SetFaults(faults)
			hash, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			want, err := img.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			path := "/v2/" + repo + "/manifests/" + hash.String() + "?" + ns
			wantBlob(t, s.get(path), want)
			b.Stop()
			got := s.get(path)
			wantStatus(t, got, http.StatusBadGateway)
			if m := got.errors(t)[0].Message; !strings.Contains(m, "manifest") {
				t.Errorf("message %q", m)
			}
		})
	}
}

func TestDigestLike(t *testing.T) {
	t.Parallel()
	if got := digestLike(someDigest, nil); got != someDigest {
		t.Error(got)
	}
	if got := digestLike("sha512:", nil); len(got) != 7+128 {
		t.Error(got)
	}
}

func TestHugeManifestIsRelayed(t *testing.T) {
	t.Parallel()
	for _, size := range []int{maxManifest - 1, maxManifest, maxManifest + 1, 2 * maxManifest} {
		data := make([]byte, size)
		resp := &http.Response{StatusCode: http.StatusOK, Request: &http.Request{Method: http.MethodGet}, Body: http.NoBody}
		resp.Body = limitedBody{strings.NewReader(string(data)), http.NoBody}
		pull := Pull{Kind: KindManifests, Reference: digestLike("sha256:", data)}
		if o, why := verify(resp, pull); o != relayed {
			t.Errorf("%d bytes: %s %s", size, o, why)
		}
		n := 0
		for buf := make([]byte, 1<<20); ; {
			k, err := resp.Body.Read(buf)
			if n += k; err != nil {
				break
			}
		}
		if n != size {
			t.Errorf("%d bytes: %d relayed", size, n)
		}
	}
}
