package proxy

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

	namespaced bool   // Host came from ?ns=
	query      string // the rest of the query, encoded
}

const (
	maxRepository = 255
	maxQuery      = 8 << 10 // the next page of a list is asked for by tokens of a few KiB
)

// Parse understands a pull request. Its errors carry the status and OCI code to
// answer with.
func Parse(r *http.Request) (Pull, error) {
	p := Pull{Host: strings.ToLower(r.Host)}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(r.URL.RawQuery) > maxQuery {
		return Pull{}, &ociError{http.StatusBadRequest, CodeNameInvalid, "malformed query"}
	}
	if ns, ok := query["ns"]; ok {
		p.Host, p.namespaced = strings.ToLower(ns[0]), true
		query.Del("ns")
	}
	p.query = query.Encode()
	if !isHost(p.Host) {
		return Pull{}, &ociError{http.StatusBadRequest, CodeNameInvalid, "malformed registry host"}
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 3 {
		return Pull{}, &ociError{http.StatusMethodNotAllowed, CodeUnsupported, "this registry only serves pulls"}
	}
	last := len(parts) - 1
	p.Repository = strings.Join(parts[:last-1], "/")
	p.Kind, p.Reference = Kind(parts[last-1]), parts[last]
	return p.checked()
}

func (p Pull) checked() (Pull, error) {
	if len(p.Repository) > maxRepository || !isRepository(p.Repository) {
		return Pull{}, &ociError{http.StatusBadRequest, CodeNameInvalid, "malformed repository name"}
	}
	switch {
	case p.Kind == KindTags && p.Reference == "list":
		p.Reference = ""
	case p.Kind == KindManifests && (p.byDigest() || isTag(p.Reference)):
	case (p.Kind == KindBlobs || p.Kind == KindReferrers) && p.byDigest():
	case p.Kind == KindManifests:
		return Pull{}, &ociError{http.StatusBadRequest, CodeManifestInvalid, "malformed tag or digest"}
	case p.Kind == KindReferrers, p.Kind == KindBlobs && p.Reference != "uploads":
		return Pull{}, &ociError{http.StatusBadRequest, CodeDigestInvalid, "malformed digest"}
	default:
		return Pull{}, &ociError{http.StatusMethodNotAllowed, CodeUnsupported, "this registry only serves pulls"}
	}
	return p, nil
}

// byDigest reports whether any upstream's answer must be the same bytes.
func (p Pull) byDigest() bool { return isDigest(p.Reference) }

// path is what follows the root of the API, for a repository name.
func (p Pull) path(repository string) string {
	if p.Kind == KindTags {
		return "/" + repository + "/tags/list"
	}
	return "/" + repository + "/" + string(p.Kind) + "/" + p.Reference
}

// at is the repository's name at an upstream: the prefix that is the name's
// path is replaced by the upstream's. ok is false when nothing is left to ask
// for.
func at(upstreamPath, namePath, repository string) (string, bool) {
	rest := repository
	if namePath != "" {
		rest = strings.TrimPrefix(strings.TrimPrefix(repository, namePath), "/")
	}
	mapped := strings.Trim(upstreamPath+"/"+rest, "/")
	return mapped, mapped != ""
}
