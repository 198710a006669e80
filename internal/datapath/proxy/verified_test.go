package proxy

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestWrongBlobs: where another upstream can serve, a blob of other bytes than its
// digest says never completes, and the next pull has the right one.
func TestWrongBlobs(t *testing.T) {
	t.Parallel()
	chunked := func(w http.ResponseWriter, _ *http.Request) {
		for range 300 {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
			_ = http.NewResponseController(w).Flush()
		}
	}
	for name, faults := range map[string]testregistry.Faults{
		"of its length":   {WrongBytes: true},
		"without length":  {Answer: chunked},
		"in two pieces":   {WrongBytes: true, CutAfter: 100_000},
		"below the limit": {WrongBytes: true, Match: func(r *http.Request) bool { return r.Header.Get("Range") == "" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, img := pair(t, testregistry.Options{})
			s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
			a.SetFaults(faults)
			digest, content := blob(t, img)
			got := s.get(blobPath(digest))
			if got.status != http.StatusOK || got.err == nil {
				t.Fatalf("%d, %d bytes, error %v; want a body that breaks off", got.status, len(got.body), got.err)
			}
			a.ResetLog()
			wantBlob(t, s.get(blobPath(digest)), content)
			wantStatus(t, s.get(blobPath(digest), "Range", "bytes=5-"), http.StatusPartialContent)
			if asked := a.Count(func(testregistry.Request) bool { return true }); asked > 0 {
				t.Errorf("the first was asked again %d times", asked)
			}
			wantStatus(t, s.get(manifestPath), http.StatusOK)
			if faults.CutAfter == 0 && a.Count(func(testregistry.Request) bool { return true }) == 0 {
				t.Error("it is passed over for all that it has")
			}
			b.SetFaults(testregistry.Faults{Status: 404})
			if got := s.get(blobPath(digest)); got.status != http.StatusOK || got.err == nil {
				t.Errorf("the last that has it: %d, %d bytes, error %v; want a body that breaks off", got.status, len(got.body), got.err)
			}
			a.SetFaults(testregistry.Faults{})
			wantBlob(t, s.get(blobPath(digest)), content) // one wrong bit is not for ever
			if log := s.logged(); !strings.Contains(log, "have another digest") {
				t.Errorf("the log does not say it: %s", log)
			}
		})
	}
}

// TestSmallBlobsAreVerifiedFirst: the next upstream serves at once.
func TestSmallBlobsAreVerifiedFirst(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t, testregistry.Options{})
	img := a.PushRandom(t, "team/a/small", "v1", 1, 3000)
	b.Push(t, "team/b/small", "v1", img)
	digest, content := blob(t, img)
	path := "/v2/system/deckhouse/small/blobs/" + digest + "?" + ns
	s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.SetFaults(testregistry.Faults{WrongBytes: true})
	wantBlob(t, s.get(path), content)
	// One that breaks is continued as any other.
	a.SetFaults(testregistry.Faults{CutAfter: 1000})
	wantBlob(t, s.get(path), content)
	if got := b.Requests()[len(b.Requests())-1].Header.Get("Range"); !strings.HasPrefix(got, "bytes=1000-") {
		t.Errorf("continued with Range %q", got)
	}
	// With one upstream the client's own check suffices.
	s.swap(2, a.Upstream("team/a"))
	a.SetFaults(testregistry.Faults{WrongBytes: true})
	if got := s.get(path); got.status != http.StatusOK || got.err != nil || bytes.Equal(got.body, content) {
		t.Errorf("alone: %d %v", got.status, got.err)
	}
}

// TestAPageMayBeABlob: the digest says so.
func TestAPageMayBeABlob(t *testing.T) {
	t.Parallel()
	page := []byte("<!DOCTYPE html><title>A report</title>")
	sum := sha256.Sum256(page)
	for _, kind := range []string{"text/html", ""} {
		s := start(t, Config{}, host(t, body(kind, page)))
		wantBlob(t, s.get(blobPath("sha256:"+hex.EncodeToString(sum[:]))), page)
		wantStatus(t, s.get(blobPath(someDigest)), http.StatusBadGateway)
	}
}

// TestCompressedInSpiteOfIdentity: manifests and lists are decoded, with a bound.
func TestCompressedInSpiteOfIdentity(t *testing.T) {
	t.Parallel()
	// Made before anybody asks: under the race detector it takes long.
	zipped := func(kind, encoding string, data []byte) http.HandlerFunc {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		_, _ = z.Write(data)
		_ = z.Close()
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Encoding", encoding)
			w.Header().Set("Docker-Content-Digest", judge.DigestLike("", data))
			_, _ = w.Write(out.Bytes())
		}
	}
	_, _, img := pair(t, testregistry.Options{})
	manifest, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{}, host(t, zipped(judge.DockerManifest, "gzip", manifest)))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		got := s.do(method, manifestPath)
		if got.status != http.StatusOK || got.header.Get("Content-Encoding") != "" || got.header.Get("Content-Length") != strconv.Itoa(len(manifest)) ||
			method == http.MethodGet && !bytes.Equal(got.body, manifest) {
			t.Errorf("%s: %d %v %.200s", method, got.status, got.header, got.body)
		}
	}
	s.swap(2, host(t, zipped("application/json", "gzip", []byte(`{"name":"x","tags":["v1"]}`))))
	if got := s.get("/v2/" + repo + "/tags/list?" + ns); got.status != http.StatusOK || !strings.Contains(string(got.body), `"v1"`) || got.header.Get("Content-Encoding") != "" {
		t.Errorf("tags: %d %v %s", got.status, got.header, got.body)
	}
	for what, h := range map[string]http.HandlerFunc{
		"which is no manifest":    zipped(judge.DockerManifest, "gzip", bytes.Repeat([]byte(" "), 64<<20)),
		`Content-Encoding \"br\"`: zipped(judge.DockerManifest, "br", manifest),
		"in gzip that cannot be read: gzip: inval": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(manifest)
		},
	} {
		s.swap(3, host(t, h))
		if got := s.get(manifestPath); got.status != http.StatusBadGateway || !strings.Contains(string(got.body), what) {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
}
