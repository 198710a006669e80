package regauth

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

type repositoryKey struct{}

// WithRepository says which repository of the upstream a request is about, whatever
// its path and those of its redirects look like.
func WithRepository(ctx context.Context, repository string) context.Context {
	return context.WithValue(ctx, repositoryKey{}, repository)
}

// slotOf is what a request asks for. The repository's name comes from who made the
// request, else from its place in the path: before the last two parts, which say what
// of the repository is wanted. Where a registry redirects to another path of its own,
// it may give that another name, so that it is another slot.
func (t *Transport) slotOf(req *http.Request) slot {
	place, found := repositoryIn(req.URL.Path)
	repository, _ := req.Context().Value(repositoryKey{}).(string)
	if repository == "" && found {
		repository, _ = strings.CutPrefix(place, t.api+"/")
		if repository == place {
			repository = "" // not below the API: only the registry knows
		}
	}
	s := slot{key: place}
	if repository != "" {
		s.scope = "repository:" + repository + ":pull"
		s.key = s.scope + " " + place
	}
	return s
}

// repositoryIn is a path of the registry's API without what is wanted of the
// repository. Any part of a repository's name may be a word of the API, so only the
// place counts. A path of another kind is returned as it is.
func repositoryIn(path string) (string, bool) {
	parts := strings.Split(path, "/")
	last := len(parts) - 1
	if last < 3 || !slices.Contains([]string{"manifests", "blobs", "referrers", "tags"}, parts[last-1]) {
		return path, false
	}
	return strings.Join(parts[:last-1], "/"), true
}

// mostScopes is how many scopes of a challenge are asked for.
const mostScopes = 4

// union are the scopes that a request needs by itself and those that its challenge
// names, as containerd asks for them: a registry behind another path may know the
// repository by another name. One that allows more than another takes its place.
func union(own, challenged string) string {
	var all []string
	if own != "" {
		all = []string{own}
	}
	for s := range strings.FieldsSeq(challenged) {
		switch {
		case len(all) > mostScopes || slices.Contains(all, s):
		case own != "" && strings.HasPrefix(s, own+","):
			all[0] = s
		default:
			all = append(all, s)
		}
	}
	return strings.Join(all, " ")
}
