package routes

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// pathMapping says where the repositories of a name are at one upstream. An
// upstream of a layout has them below a path, a user's mirror where rewrites
// say.
type pathMapping struct {
	root string // of the API there
	host string // whose repositories they are
	path string // what the name's path becomes

	mirror            bool
	rewrites          []rewrite
	noPull, noResolve bool
}

type rewrite struct {
	match   *regexp.Regexp
	replace string
}

func layoutMapping(u upstream.Upstream) pathMapping {
	return pathMapping{root: oci.Root, host: u.Host, path: u.Path}
}

func mirrorMapping(m upstream.Mirror) (pathMapping, error) {
	p := pathMapping{root: m.Root, mirror: true, noPull: m.NoPull, noResolve: m.NoResolve}
	for _, r := range m.Rewrites {
		match, err := regexp.Compile(r.Regex)
		if err != nil {
			return pathMapping{}, fmt.Errorf("rewrite: %w", err)
		}
		p.rewrites = append(p.rewrites, rewrite{match: match, replace: r.Replace})
	}
	return p, nil
}

// named is how the registry itself calls one of its repositories: what is before it
// in the path, below the API, is part of the name.
func (p pathMapping) named(repository string) string {
	_, above, ok := strings.Cut(p.root+"/", oci.Root+"/")
	if !ok {
		return repository
	}
	return above + repository
}

// allows reports whether the upstream may be asked this. As in containerd, it may
// be excluded from content by digest, or from saying what a tag means.
func (p pathMapping) allows(pull oci.Pull) bool {
	if pull.ByDigest() {
		return !p.noPull
	}
	return !p.noResolve
}

// repositoryAt is the repository's name at the upstream. ok is false when it has
// none.
func (p pathMapping) repositoryAt(name layout.Name, repository string) (string, bool) {
	if !p.mirror {
		mapped, ok := at(p.path, name.Path, repository)
		return upstream.RepositoryOf(p.host, mapped), ok
	}
	for _, r := range p.rewrites {
		if r.match.MatchString(repository) {
			repository = strings.Trim(r.match.ReplaceAllString(repository, r.replace), "/")
			break
		}
	}
	return repository, validRepository(repository)
}

// pathSegments is what a registry may call a repository. Nothing in it can change
// the path that it becomes a part of.
var pathSegments = regexp.MustCompile(`^[0-9A-Za-z._-]+(?:/[0-9A-Za-z._-]+)*$`)

// validRepository reports whether a rewritten name can be asked for.
func validRepository(repository string) bool {
	return len(repository) <= oci.MaxRepository && pathSegments.MatchString(repository) &&
		!slices.ContainsFunc(strings.Split(repository, "/"), func(part string) bool { return part == "." || part == ".." })
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
