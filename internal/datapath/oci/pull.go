package oci

import (
	"net/http"
	"net/url"
	"strings"
)

// Kind is the part of the registry API that a pull uses.
type Kind string

// The pull side of the distribution specification.
const (
	KindManifests Kind = "manifests"
	KindBlobs     Kind = "blobs"
	KindTags      Kind = "tags"
	KindReferrers Kind = "referrers"
)

// Pull is a request that has been understood. Nothing below Parse looks at the
// client's URL again.
type Pull struct {
	// Host is that of the name: ?ns= if given, as containerd does for every
	// host that is not the image's own, else the Host header. Lower case.
	Host       string
	Repository string // as the client names it: "system/deckhouse/foo"
	Kind       Kind
	Reference  string // tag or digest; empty for tags

	Namespaced bool   // Host came from ?ns=
	Hop        bool   // another store asks, see HeaderHop
	Query      string // the rest of the query, encoded
}

const (
	// Root is where the specification puts the API of a registry.
	Root = "/v2"
	// MaxRepository is how long a repository's name may be.
	MaxRepository = 255
	// MaxQuery is how long a query may be: the next page of a list is asked for by tokens
	// of a few KiB.
	MaxQuery = 8 << 10
)

// Parse understands a pull request. Its errors carry the status and OCI code to
// answer with.
func Parse(r *http.Request) (Pull, error) {
	p := Pull{Host: strings.ToLower(r.Host), Hop: r.Header.Get(HeaderHop) != ""}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(r.URL.RawQuery) > MaxQuery {
		return Pull{}, &Error{http.StatusBadRequest, CodeNameInvalid, "malformed query"}
	}
	if ns, ok := query["ns"]; ok {
		p.Host, p.Namespaced = strings.ToLower(ns[0]), true
		query.Del("ns")
	}
	p.Query = query.Encode()
	if !isHost(p.Host) {
		return Pull{}, &Error{http.StatusBadRequest, CodeNameInvalid, "malformed registry host"}
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 3 {
		return Pull{}, &Error{http.StatusMethodNotAllowed, CodeUnsupported, "this registry only serves pulls"}
	}
	last := len(parts) - 1
	p.Repository = strings.Join(parts[:last-1], "/")
	p.Kind, p.Reference = Kind(parts[last-1]), parts[last]
	return p.checked()
}

func (p Pull) checked() (Pull, error) {
	if len(p.Repository) > MaxRepository || !isRepository(p.Repository) {
		return Pull{}, &Error{http.StatusBadRequest, CodeNameInvalid, "malformed repository name"}
	}
	switch {
	case p.Kind == KindTags && p.Reference == "list":
		p.Reference = ""
	case p.Kind == KindManifests && (p.ByDigest() || isTag(p.Reference)):
	case (p.Kind == KindBlobs || p.Kind == KindReferrers) && p.ByDigest():
	case p.Kind == KindManifests:
		return Pull{}, &Error{http.StatusBadRequest, CodeManifestInvalid, "malformed tag or digest"}
	case p.Kind == KindReferrers, p.Kind == KindBlobs && p.Reference != "uploads":
		return Pull{}, &Error{http.StatusBadRequest, CodeDigestInvalid, "malformed digest"}
	default:
		return Pull{}, &Error{http.StatusMethodNotAllowed, CodeUnsupported, "this registry only serves pulls"}
	}
	return p, nil
}

// ByDigest reports whether any upstream's answer must be the same bytes.
func (p Pull) ByDigest() bool { return IsDigest(p.Reference) }

// Path is what follows the root of the API, for a repository name.
func (p Pull) Path(repository string) string {
	if p.Kind == KindTags {
		return "/" + repository + "/tags/list"
	}
	return "/" + repository + "/" + string(p.Kind) + "/" + p.Reference
}

// IsLayer reports whether a layer is pulled. Registries often have layers served by other
// machines than the rest.
func (p Pull) IsLayer(method string) bool { return p.Kind == KindBlobs && method == http.MethodGet }

// DigestOf is what the body of an answer must be; ok is false where nothing says so.
func (p Pull) DigestOf(resp *http.Response) (digest string, ok bool) {
	switch {
	case p.Kind != KindBlobs && p.Kind != KindManifests:
		return "", false
	case p.ByDigest():
		return p.Reference, true
	default:
		said := resp.Header.Get("Docker-Content-Digest")
		return said, IsDigest(said)
	}
}
