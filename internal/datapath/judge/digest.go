package judge

import (
	"context"
	"net/http"

	"github.com/d8-registry/registry/internal/layout"
)

// Digest is what the registry has under the name of an image, as a digest. The
// registry's own word is taken, from the header of a HEAD; with read the manifest is
// fetched and its bytes are counted.
func (r Registry) Digest(ctx context.Context, image string, read bool) (string, error) {
	repository, reference, _, err := layout.ManifestOf(layout.NameOf(r.Upstream), image)
	if err != nil {
		return "", err
	}
	path := "/v2/" + repository + "/manifests/" + reference
	if !read {
		resp, err := r.do(ctx, http.MethodHead, repository, path)
		if err != nil {
			return "", err
		}
		_ = resp.Body.Close()
		if outcome, reason := OfStatus(resp, r.url("")); outcome != Relayed && outcome != Rejected { // some do not know HEAD
			return "", &Error{Outcome: outcome, text: reason}
		}
		if said := resp.Header.Get("Docker-Content-Digest"); Convincing(resp, "") {
			return said, nil
		}
	}
	_, data, err := r.fetch(ctx, repository, path, "")
	if err != nil {
		return "", err
	}
	return DigestLike("", data), nil
}
