package peer

import (
	"net/http"
	"slices"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// Transport asks those who come before this store, then the next one for what it has, then the
// upstreams. So what was pulled while this store was gone, or was on a disk that was lost, is not
// fetched again; where nobody waits all of those that come after it are asked. What is no content of
// a digest is asked of the upstreams alone: what a tag means only they know.
func (p *Peers) Transport(upstreams http.RoundTripper) http.RoundTripper { return asking{p, upstreams} }

type asking struct {
	peers *Peers
	next  http.RoundTripper
}

func (a asking) RoundTrip(req *http.Request) (*http.Response, error) {
	x, all := fetch.From(req.Context()), a.peers.now.Load()
	if len(all.targets) == 0 || !isContent(x.Pull) || slices.ContainsFunc(x.Route.Targets, (*routes.Target).OfUser) {
		return a.next.RoundTrip(req)
	}
	hop := *x
	before, after := all.around(x.Pull.Reference)
	switch idle := a.peers.cfg.Idle(req.Context()); {
	case x.Giver != nil: // it is on its way
		after = nil
	case !idle:
		after = after[:min(len(after), 1)]
	}
	if x.Pull.Hop {
		before = nil
	}
	hop.Route.Targets = slices.Concat(before, all.kept(after), x.Route.Targets)
	resp, err := a.next.RoundTrip(req.WithContext(fetch.With(req.Context(), &hop)))
	x.Served = hop.Served
	if err == nil && req.Method == http.MethodGet && resp.StatusCode < http.StatusMultipleChoices && !x.Served.IsStore() {
		a.peers.note(x.Pull)
	}
	return resp, err //nolint:wrapcheck // it is what it would be without other stores
}

// kept are stores as they are asked for what they have: they ask nobody, so nobody waits for each other.
func (p *peers) kept(of []*routes.Target) []*routes.Target {
	all := make([]*routes.Target, 0, len(of))
	for _, t := range of {
		all = append(all, p.keepers[t.Host()])
	}
	return all
}

// isContent reports whether anybody's answer to a pull must be the same bytes.
func isContent(pull oci.Pull) bool {
	return (pull.Kind == oci.KindBlobs || pull.Kind == oci.KindManifests) && pull.ByDigest() && pull.Query == ""
}
