package proxy

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// apiRoot is where the specification puts the API of a registry.
const apiRoot = "/v2"

// place is where the repositories of a name are at one upstream. One of a
// layout has them below a path, a user's mirror where rewrites say.
type place struct {
	root string // of the API there
	path string // what the name's path becomes

	mirror            bool
	rewrites          []rewrite
	noPull, noResolve bool
}

type rewrite struct {
	match   *regexp.Regexp
	replace string
}

func below(path string) place { return place{root: apiRoot, path: path} }

func placeOf(m upstream.Mirror) (place, error) {
	p := place{root: m.Root, mirror: true, noPull: m.NoPull, noResolve: m.NoResolve}
	for _, r := range m.Rewrites {
		match, err := regexp.Compile(r.Regex)
		if err != nil {
			return place{}, fmt.Errorf("rewrite: %w", err)
		}
		p.rewrites = append(p.rewrites, rewrite{match: match, replace: r.Replace})
	}
	return p, nil
}

// may reports whether the upstream is there for such requests: what a tag means
// is another matter than content by its digest, as containerd has it.
func (p place) may(pull Pull) bool {
	if pull.byDigest() {
		return !p.noPull
	}
	return !p.noResolve
}

// find is the repository's name there. ok is false when there is none.
func (p place) find(name layout.Name, repository string) (string, bool) {
	if !p.mirror {
		return at(p.path, name.Path, repository)
	}
	for _, r := range p.rewrites {
		if r.match.MatchString(repository) {
			repository = strings.Trim(r.match.ReplaceAllString(repository, r.replace), "/")
			break
		}
	}
	return repository, sound(repository)
}

// pathSegments is what a registry may call a repository; nothing that changes
// the path that it is a part of.
var pathSegments = regexp.MustCompile(`^[0-9A-Za-z._-]+(?:/[0-9A-Za-z._-]+)*$`)

// sound reports whether a rewritten name can be asked for.
func sound(repository string) bool {
	if len(repository) > maxRepository || !pathSegments.MatchString(repository) {
		return false
	}
	for segment := range strings.SplitSeq(repository, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
