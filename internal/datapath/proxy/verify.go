package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxManifest is the size that registries and clients agree on as the limit of
// a manifest, in bytes. Larger ones are relayed unverified.
const maxManifest = 4 << 20

// collect reads what will not be streamed, while the time for the header still
// runs: a manifest by digest, which is verified; tags and errors, which are
// rewritten.
func collect(resp *http.Response, pull Pull) (outcome, string) {
	switch {
	case resp.Request.Method != http.MethodGet:
		return relayed, ""
	case resp.StatusCode >= http.StatusBadRequest:
		return readWhole(resp, maxErrorBody, "error")
	case resp.StatusCode == http.StatusOK && pull.Kind == KindTags:
		return readWhole(resp, maxTagsBody, "list of tags")
	default:
		return verify(resp, pull)
	}
}

func readWhole(resp *http.Response, limit int64, what string) (outcome, string) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return noConnection, fmt.Sprintf("read the %s: %v", what, err)
	case int64(len(data)) > limit:
		return serverError, fmt.Sprintf("the %s is larger than %d bytes", what, limit)
	}
	resp.Body = limitedBody{bytes.NewReader(data), resp.Body}
	return relayed, ""
}

// verify reads a manifest that was asked for by digest and compares. containerd
// does the same, but then fails the pull and asks no other host; here the next
// upstream is asked. Layers are not read: they are streamed.
func verify(resp *http.Response, pull Pull) (outcome, string) {
	if pull.Kind != KindManifests || !pull.byDigest() || resp.StatusCode != http.StatusOK {
		return relayed, ""
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return noConnection, fmt.Sprintf("read the manifest: %v", err)
	}
	if len(data) > maxManifest {
		resp.Body = limitedBody{io.MultiReader(bytes.NewReader(data), resp.Body), resp.Body}
		return relayed, ""
	}
	if digestLike(pull.Reference, data) != pull.Reference {
		return wrongDigest, "the manifest has other bytes than its digest says"
	}
	resp.Body = limitedBody{bytes.NewReader(data), resp.Body}
	return relayed, ""
}

// digestLike is the digest of data by the algorithm of another digest.
func digestLike(digest string, data []byte) string {
	if strings.HasPrefix(digest, "sha512:") {
		sum := sha512.Sum512(data)
		return "sha512:" + hex.EncodeToString(sum[:])
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
