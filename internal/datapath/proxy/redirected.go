package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// redirected follows redirects of the upstream here, because the client may
// not reach where they lead. Credentials stay within the origin: another port
// of the same host is another server.
type redirected struct {
	origin            *url.URL
	authorized, plain http.RoundTripper
}

func (r redirected) RoundTrip(req *http.Request) (*http.Response, error) {
	via := r.authorized
	for range maxRedirect {
		resp, err := via.RoundTrip(req)
		if err != nil || !isRedirect(resp.StatusCode) {
			return resp, err
		}
		to, err := r.follow(req, resp.Header.Get("Location"))
		regauth.Discard(resp)
		if err != nil {
			return nil, fmt.Errorf("redirect of %s: %w", req.URL.Host, err)
		}
		if !regauth.SameOrigin(to, r.origin) {
			via = r.plain // it stays so, also if that server sends us back
		}
		req = req.Clone(req.Context())
		req.URL, req.Host = to, ""
		req.Header.Del("Authorization")
	}
	return nil, fmt.Errorf("redirect of %s: more than %d", r.origin.Host, maxRedirect)
}

// follow is where a Location leads, if we may go there. Errors do not quote
// it: signed URLs are secrets.
func (r redirected) follow(req *http.Request, location string) (*url.URL, error) {
	if location == "" {
		return nil, errors.New("no Location")
	}
	to, err := req.URL.Parse(location)
	if err != nil {
		return nil, errors.New("malformed Location")
	}
	if err := regauth.ValidateHop(r.origin, to); err != nil {
		return nil, err
	}
	// A digest proves a body over any transport; a tag or a list does not.
	x := exchangeFrom(req.Context())
	if req.URL.Scheme == "https" && to.Scheme != "https" && (x == nil || !x.pull.byDigest() || x.pull.Kind == KindReferrers) {
		return nil, fmt.Errorf("%w: from https to %s", regauth.ErrForbiddenHop, to.Scheme)
	}
	to.Fragment = ""
	return to, nil
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	default:
		return false
	}
}
