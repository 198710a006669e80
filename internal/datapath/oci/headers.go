package oci

import (
	"net/http"
	"slices"
)

// Between stores, and to whoever asks one.
const (
	// HeaderHop says that another store asks, for a client of its own: what it asks for is not
	// asked of a third one. It counts from a store only.
	HeaderHop = "Registry-Hop"
	// HeaderAsked names, with a store's 404, the upstreams that have it not, by Target.Place.
	HeaderAsked = "Registry-Asked"
	// HeaderTarget is how a node asks a store about the target of its layout, in the words of
	// routes.ProofOf, and what the store says of it: one of the next two, or nothing.
	HeaderTarget = "Registry-Target"
	// TargetKnown: the store leads to that registry, with the same credentials.
	TargetKnown = "known"
	// TargetProved: and the registry alone has served it the image, and pulls from it go on.
	TargetProved = "proved"
	// OnlyKept is the Cache-Control (RFC 9111) of a store that asks another one for what it has.
	OnlyKept = "only-if-cached"
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

// KeepRequest is what upstreams get of a client's header: what a pull needs.
func KeepRequest(header http.Header) http.Header { return only(header, requestHeaders) }

// KeepResponse is what clients get of an upstream's header.
func KeepResponse(header http.Header) http.Header { return only(header, responseHeaders) }

// Reserved reports whether a header of a request changes the meaning of a pull or belongs
// to its connection, so that nobody but us may set it.
func Reserved(name string) bool {
	return slices.Contains(requestHeaders, name) || slices.Contains(connectionHeaders, name)
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
