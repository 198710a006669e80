package judge

import (
	"net/http"
	"strings"
	"testing"
)

const (
	someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // of nothing
	anImage    = `{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"layers":[]}`
	anIndex    = `{"schemaVersion":2,"manifests":[]}`
)

func TestRead(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, mediaType, body, digest string
		kind                          Kind
		err                           string // part of it; empty: it is a manifest
	}{
		{"an image", OCIManifest, anImage, "", Image, ""},
		{"an image by its digest", DockerManifest, anImage, "own", Image, ""},
		{"an index", OCIIndex, anIndex, "", Index, ""},
		{"a list", DockerList + "; charset=utf-8", anIndex, "", Index, ""},
		{"without a type", "", anImage, "", Image, ""},
		{"said to be JSON", "application/json", anIndex, "", Index, ""},
		{"said to be text", "text/plain", anImage, "", Image, ""},
		{"schema 1", "text/plain", `{"schemaVersion":1,"fsLayers":[]}`, "", Legacy, ""},
		{"an artifact", "", `{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[]}`, "", Artifact, ""},
		{"a media type of 255", "", `{"mediaType":"` + strings.Repeat("x", 255) + `","schemaVersion":2,"manifests":[]}`, "", Index, ""},
		{"an index of a longer one", "", `{"mediaType":"` + strings.Repeat("x", 256) + `","schemaVersion":2,"manifests":[]}`, "", 0, "256 bytes"},
		{"an artifact of a longer one", "", `{"mediaType":"` + strings.Repeat("x", 256) + `","blobs":[]}`, "own", 0, "256 bytes"},
		{"said to be a page, but the digest is right", "text/html", anImage, "own", Image, ""},
		{"a page", "text/html; charset=utf-8", "<html>", "", 0, "a web page"},
		{"a page by digest", "text/html", "<html>", someDigest, 0, "a web page"},
		{"another image, said to be a page", "text/html", anImage, someDigest, 0, "a web page"},
		{"an image without layers", OCIManifest, `{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"layers":null}`, "", Image, ""},
		{"an index without children", OCIIndex, `{"schemaVersion":2,"manifests":null}`, "", Index, ""},
		{"both at once, one of them empty", OCIManifest, `{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"layers":[],"manifests":null}`, "", 0, "neither"},
		{"layers that are no list", OCIManifest, `{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"layers":{}}`, "", 0, "cannot be read"},
		{"a page without a type", "", "\n<!DOCTYPE html>", "", 0, "a web page"},
		{"XML", "application/xml", "<?xml?><Error/>", someDigest, 0, "a web page"},
		{"a page of JSON type", OCIManifest, "<html>", "", 0, "a web page"},
		{"nothing", OCIManifest, " \n", "", 0, "nothing"},
		{"nothing, by the digest of nothing", OCIManifest, "", someDigest, 0, "nothing"},
		{"an OCI error", OCIManifest, `{"errors":[{"code":"DENIED","message":"no\u001b[2J"}]}`, "", 0, `"DENIED: no\x1b[2J"`},
		{"an error by digest", "", `{"error":"gone"}`, someDigest, 0, `an error instead of a manifest: "gone"`},
		{"a long error", "", `{"error":"` + strings.Repeat("x", 5000) + `"}`, "", 0, "an error"},
		{"other bytes", OCIManifest, anImage, someDigest, 0, "other bytes"},
		{"no JSON", OCIManifest, "ok", "", 0, "cannot be read"},
		{"JSON of another", OCIManifest, `{"status":"up"}`, "", 0, "no manifest"},
		{"null", OCIManifest, `null`, "", 0, "no manifest"},
		{"a list of nothing", OCIManifest, `[]`, "", 0, "cannot be read"},
		{"an index said to be an image", OCIManifest, anIndex, "", 0, "another kind"},
		{"both at once", OCIManifest, `{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"layers":[],"manifests":[]}`, "", 0, "neither"},
		{"a config without a digest", OCIManifest, `{"schemaVersion":2,"config":{},"layers":[]}`, "", 0, "neither"},
	} {
		if tc.digest == "own" {
			tc.digest = DigestLike("", []byte(tc.body))
		}
		m, err := Read(http.Header{"Content-Type": {tc.mediaType}}, []byte(tc.body), tc.digest)
		switch {
		case tc.err == "" && (err != nil || m.Kind != tc.kind || m.MediaType == ""):
			t.Errorf("%s: %+v, %v", tc.name, m, err)
		case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err) || len(err.Error()) > 300):
			t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
		}
	}
}

func TestDigestLike(t *testing.T) {
	t.Parallel()
	if got := DigestLike(someDigest, nil); got != someDigest {
		t.Error(got)
	}
	if got := DigestLike("sha512:", nil); len(got) != 7+128 {
		t.Error(got)
	}
}
