package proxy

import (
	"net/http"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
)

// keepOnlyPullHeaders makes the request that upstreams get: nothing of the
// client's but what a pull needs, and no body.
func keepOnlyPullHeaders(r *http.Request) *http.Request {
	header := oci.KeepRequest(r.Header)
	header.Set("User-Agent", judge.UserAgent)
	// A body that is encoded on the way could not be continued by Range.
	header.Set("Accept-Encoding", "identity")
	out := r.WithContext(r.Context())
	out.Header, out.Close = header, false
	out.Body, out.ContentLength, out.TransferEncoding, out.Trailer = http.NoBody, 0, nil, nil
	return out
}

// keepOnlyPullResponse makes the answer that clients get, with the names that
// they know.
func keepOnlyPullResponse(x *fetch.Exchange, resp *http.Response) error {
	links, _ := oci.Links(resp, x.Pull)
	resp.Header = oci.KeepResponse(resp.Header)
	resp.Header.Set("Docker-Distribution-API-Version", "registry/2.0")
	for _, link := range links {
		resp.Header.Add("Link", link)
	}
	theirs, _ := x.Served.Repository(x.Route.Name, x.Pull.Repository)
	if resp.StatusCode >= http.StatusBadRequest {
		replaceErrorBody(resp, theirs, x.Pull)
		return nil
	}
	if x.Pull.Kind == oci.KindTags && resp.StatusCode == http.StatusOK && resp.Request.Method != http.MethodHead {
		return replaceTagsName(resp, x.Pull.Repository)
	}
	return nil
}
