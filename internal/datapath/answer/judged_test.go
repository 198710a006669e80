package answer

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

// TestJudgedIsJudge: what is remembered of a manifest holds for the same bytes, asked for
// in the same way and called the same, and for nothing else.
func TestJudgedIsJudge(t *testing.T) {
	t.Parallel()
	image := []byte(`{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"layers":[]}`)
	index := []byte(`{"schemaVersion":2,"manifests":[{"digest":"` + someDigest + `"}]}`)
	digest := judge.DigestLike("", image)
	var j judged
	for range 2 {
		for _, tc := range []struct {
			contentType, digest string
			data                []byte
			kind                judge.Kind
			ok                  bool
		}{
			{judge.OCIManifest, "", image, judge.Image, true},
			{judge.OCIManifest, digest, image, judge.Image, true},
			{"application/json", digest, image, judge.Image, true},
			{"text/html", "", image, 0, false},
			{judge.OCIIndex, digest, image, 0, false},
			{judge.OCIManifest, someDigest, image, 0, false},
			{judge.OCIIndex, "", index, judge.Index, true},
			{judge.OCIIndex, digest, index, 0, false},
			{judge.OCIManifest, "", index, 0, false},
		} {
			m, err := j.read(http.Header{"Content-Type": {tc.contentType}}, tc.data, tc.digest)
			if (err == nil) != tc.ok || tc.ok && m.Kind != tc.kind {
				t.Errorf("%+v: %+v %v", tc, m, err)
			}
		}
	}
}

// TestJudgedIsBounded: whatever is asked for.
func TestJudgedIsBounded(t *testing.T) {
	t.Parallel()
	var j judged
	for i := range 3 * maxJudged {
		data := fmt.Appendf(nil, `{"schemaVersion":2,"x":%d,"manifests":[{"digest":%q}]}`, i, someDigest)
		if _, err := j.read(http.Header{}, data, ""); err != nil {
			t.Fatal(err)
		}
	}
	data := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"digest":%q}]}`, someDigest)
	before := len(j.good)
	if _, err := j.read(http.Header{"Content-Type": {"x/y;z=" + strings.Repeat("x", maxTypes)}}, data, ""); err != nil {
		t.Fatal(err)
	}
	if len(j.good) != before {
		t.Error("words without a bound are remembered")
	}
	if n := len(j.good); n == 0 || n > maxJudged {
		t.Errorf("%d are remembered", n)
	}
	for _, m := range j.good {
		if m.Children != nil {
			t.Fatal("children are remembered")
		}
	}
}

// TestAManifestIsReadOnce: that is what it is for.
func TestAManifestIsReadOnce(t *testing.T) { // alone: it counts what the process allocates
	data := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"digest":%q},"layers":[{"digest":%q},{"digest":%q}]}`, someDigest, someDigest, someDigest)
	var j judged
	header := http.Header{"Content-Type": {judge.OCIManifest}}
	if n := testing.AllocsPerRun(100, func() { _, _ = j.read(header, data, "") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
