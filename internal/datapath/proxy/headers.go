package proxy

import (
	"net/http"
	"net/http/httputil"
)

// The allow-lists. What is not here does not pass: in the first no
// Authorization and no Cookie, in the second no WWW-Authenticate, no
// Set-Cookie and no Location.
var (
	requestHeaders = []string{ //nolint:gochecknoglobals // a constant that Go cannot spell
		"Accept", "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
	}
	connectionHeaders = []string{ //nolint:gochecknoglobals // a constant that Go cannot spell
		"Accept-Encoding", "Connection", "Content-Length", "Host", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	}
	responseHeaders = []string{ //nolint:gochecknoglobals // a constant that Go cannot spell
		"Accept-Ranges", "Cache-Control", "Content-Encoding", "Content-Length", "Content-Range", "Content-Type",
		"Docker-Content-Digest", "Docker-Distribution-Api-Version", "Etag", "Last-Modified",
		"Oci-Filters-Applied", "Oci-Subject", "Ratelimit-Limit", "Ratelimit-Remaining",
	}
)

// keepOnlyPullHeaders makes the request that upstreams get: nothing of the
// client's but what a pull needs, and no body.
func keepOnlyPullHeaders(p *httputil.ProxyRequest) {
	header := only(p.In.Header, requestHeaders)
	header.Set("User-Agent", userAgent)
	// A body that is encoded on the way could not be continued by Range.
	header.Set("Accept-Encoding", "identity")
	p.Out.Header = header
	p.Out.Body, p.Out.ContentLength, p.Out.TransferEncoding, p.Out.Trailer = http.NoBody, 0, nil, nil
}

// keepOnlyPullResponse makes the answer that clients get, with the names that
// they know.
func keepOnlyPullResponse(resp *http.Response) error {
	x := exchangeFrom(resp.Request.Context())
	there := x.served.paths
	links, _ := linksOf(resp, x.pull)
	resp.Header = only(resp.Header, responseHeaders)
	resp.Header.Set("Docker-Distribution-API-Version", "registry/2.0")
	for _, link := range links {
		resp.Header.Add("Link", link)
	}
	theirs, _ := there.repositoryAt(x.route.name, x.pull.Repository)
	if resp.StatusCode >= http.StatusBadRequest {
		replaceErrorBody(resp, theirs, x.pull)
		return nil
	}
	if x.pull.Kind == KindTags && resp.StatusCode == http.StatusOK && resp.Request.Method != http.MethodHead {
		return replaceTagsName(resp, x.pull.Repository)
	}
	return nil
}

func only(header http.Header, names []string) http.Header {
	kept := http.Header{} // few of the names are there
	for _, name := range names {
		if values := header[name]; len(values) > 0 {
			kept[name] = values
		}
	}
	return kept
}
