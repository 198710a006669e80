package transport

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/upstream"
)

// redirected follows redirects of the upstream here, because the client may
// not reach where they lead. Credentials stay within the origin: another port
// of the same host is another server.
type redirected struct {
	origin     *url.URL
	authorized http.RoundTripper
	others     *strangers
}

func (r redirected) RoundTrip(req *http.Request) (*http.Response, error) {
	via, away := r.authorized, false
	head := req.Method == http.MethodHead
	for followed := 0; followed <= maxRedirect; {
		resp, err := via.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		if away && req.Method == http.MethodHead && refusesHead(resp.StatusCode) {
			// Its URL may be signed for GET, and is good for nothing else.
			regauth.Discard(resp)
			req = req.Clone(req.Context())
			req.Method = http.MethodGet
			continue
		}
		if !isRedirect(resp.StatusCode) {
			if head && req.Method != http.MethodHead {
				_ = resp.Body.Close() // at once: it may be a whole layer
				resp.Body, resp.Request = http.NoBody, resp.Request.Clone(req.Context())
				resp.Request.Method = http.MethodHead
			}
			return resp, nil
		}
		to, err := r.follow(req, resp.Header.Get("Location"))
		regauth.Discard(resp)
		if err != nil {
			return nil, fmt.Errorf("redirect of %s: %w", req.URL.Host, err)
		}
		followed++
		// It stays so, also if that server sends us back.
		if away = away || !regauth.SameServer(r.origin, to); away {
			via = r.others.at(to)
		}
		req = req.Clone(req.Context())
		req.URL, req.Host = to, ""
		req.Header.Del("Authorization")
	}
	return nil, judge.Errorf(judge.Nonsense, "redirect of %s: more than %d", r.origin.Host, maxRedirect)
}

func refusesHead(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusMethodNotAllowed
}

// strangers are the servers that an upstream redirects to. They are shown no
// credentials. One that wants a token gets the one that it gives to everybody:
// containerd does the same.
type strangers struct {
	base http.RoundTripper

	mu    sync.Mutex
	known map[string]*regauth.Transport
}

// maxStrangers bounds what is kept. A registry has one or two.
const maxStrangers = 16

func (s *strangers) at(to *url.URL) http.RoundTripper {
	u := upstream.Upstream{Host: to.Host, Scheme: upstream.Scheme(to.Scheme)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxStrangers {
		s.known = map[string]*regauth.Transport{}
	}
	known, ok := s.known[u.String()]
	if !ok {
		known = regauth.NewTransport(u, oci.Root, s.base)
		s.known[u.String()] = known
	}
	return known
}

// digestKey marks a request whose digest proves the answer.
type digestKey struct{}

// WithDigest says that the body of the answer will be compared with a digest, so that it
// may come by any way.
func WithDigest(ctx context.Context) context.Context {
	return context.WithValue(ctx, digestKey{}, true)
}

// follow is where a Location leads, if we may go there. Errors do not quote
// it: signed URLs are secrets.
func (r redirected) follow(req *http.Request, location string) (*url.URL, error) {
	if location == "" {
		return nil, judge.Errorf(judge.Nonsense, "no Location")
	}
	to, err := req.URL.Parse(location)
	if err != nil {
		return nil, judge.Errorf(judge.Nonsense, "malformed Location")
	}
	if err := regauth.ValidateHop(r.origin, to); err != nil {
		return nil, err
	}
	// A digest proves a body over any transport; a tag or a list does not.
	if req.URL.Scheme == "https" && to.Scheme != "https" && req.Context().Value(digestKey{}) == nil {
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
