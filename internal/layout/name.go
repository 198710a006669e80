package layout

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/d8-registry/registry/internal/upstream"
)

// Name is what image references start with: a host and, on a path boundary, a
// repository prefix. It is a comparable value.
type Name struct {
	Host string `json:"host"`           // as in image references: "registry.d8-system.svc:5001"
	Path string `json:"path,omitempty"` // without leading or trailing slash: "system/deckhouse"; may be empty
}

// Fixed is the one address that names every platform image outside Unmanaged.
func Fixed() Name { return Name{Host: "registry.d8-system.svc:5001", Path: "system/deckhouse"} }

// NameOf is the real address of an upstream as a name.
func NameOf(u upstream.Upstream) Name { return Name{Host: u.Host, Path: u.Path} }

// String is host and path with a slash between, as image references start.
func (n Name) String() string {
	if n.Path == "" {
		return n.Host
	}
	return n.Host + "/" + n.Path
}

// Compare orders names by host, then by path.
func (n Name) Compare(o Name) int {
	return cmp.Or(strings.Compare(n.Host, o.Host), strings.Compare(n.Path, o.Path))
}

// Holds reports whether a repository of a host is under the name: is it, or
// begins with it on a path boundary. Hosts know no case.
func (n Name) Holds(host, repository string) bool {
	_, ok := n.below(host, repository)
	return ok
}

// Reference is the image reference of what MatchName calls the rest.
func (n Name) Reference(rest string) string {
	if rest == "" || rest[0] == ':' || rest[0] == '@' {
		return n.String() + rest
	}
	return n.String() + "/" + rest
}

// MatchName finds the name that an image reference starts with, on a path
// boundary: the longest one, if several do. Rest is what follows it: ":tag",
// "@sha256:...", "alpha:tag" or "alpha@sha256:...".
//
// The reference is read as containerd's CRI reads it: without a host it is one
// of Docker Hub, and so are those with a first part that cannot be a host.
func MatchName(names []Name, reference string) (n Name, rest string, ok bool) {
	host, repo, suffix := splitReference(reference)
	for _, candidate := range names {
		below, match := candidate.below(host, repo)
		if match && (!ok || len(candidate.Path) > len(n.Path)) {
			n, rest, ok = candidate, below+suffix, true
		}
	}
	return n, rest, ok
}

// Match finds the route's name that an image reference starts with; see
// MatchName.
func (l Layout) Match(reference string) (n Name, rest string, ok bool) {
	return MatchName(l.Names(), reference)
}

// below is what of a repository follows the name, without the slash between.
func (n Name) below(host, repo string) (rest string, ok bool) {
	if !strings.EqualFold(n.Host, host) {
		return "", false
	}
	if n.Path == "" || n.Path == repo {
		return strings.TrimPrefix(repo, n.Path), true
	}
	return strings.CutPrefix(repo, n.Path+"/")
}

// splitReference takes "host/repo:tag@digest" apart; suffix is ":tag@digest".
func splitReference(reference string) (host, repo, suffix string) {
	end := len(reference)
	if i := strings.IndexByte(reference, '@'); i >= 0 {
		end = i
	}
	if i := strings.LastIndexByte(reference[:end], ':'); i > strings.LastIndexByte(reference[:end], '/') {
		end = i
	}
	repo, suffix = reference[:end], reference[end:]
	host, path, found := strings.Cut(repo, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, path = upstream.DockerHub, repo
	}
	host = upstream.HostInReferences(host)
	return host, upstream.RepositoryOf(host, path), suffix
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ManifestOf is the repository of an image below a name, the tag or digest that it is
// asked for by, and the digest if the image is named by one.
func ManifestOf(base Name, image string) (repository, reference, digest string, err error) {
	name, reference, byDigest := strings.Cut(image, "@")
	if byDigest {
		if !digestForm.MatchString(reference) {
			return "", "", "", fmt.Errorf("%q is no digest", reference)
		}
		digest = reference
		name, _, _ = strings.Cut(name, ":") // name:tag@digest means the digest
	} else {
		name, reference, _ = strings.Cut(image, ":")
		if reference == "" {
			reference = "latest"
		}
	}
	repository = strings.Trim(base.Path+"/"+strings.Trim(name, "/"), "/")
	if repository == "" {
		return "", "", "", fmt.Errorf("%q names no repository", image)
	}
	return upstream.RepositoryOf(base.Host, repository), reference, digest, nil
}
