package regauth

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
)

// RefusedError says that a registry or its token server refused our
// credentials. It is our failure, never the client's.
type RefusedError struct {
	Host   string // who refused
	Status int    // 401 or 403; 0 when nothing could be sent at all
	Reason string // a few words, nothing secret
}

// Error names the host and the reason.
func (e *RefusedError) Error() string {
	if e.Status == 0 {
		return e.Host + ": " + e.Reason
	}
	return fmt.Sprintf("%s: %s (%d %s)", e.Host, e.Reason, e.Status, http.StatusText(e.Status))
}

// Transport is an http.RoundTripper that speaks to one upstream with its
// credentials. It learns from the first challenge how the registry wants them
// and keeps tokens, per scope, until shortly before they expire.
//
// A 401 or 403 that it returns means that the credentials were refused.
// Requests must be to the upstream's own origin; others are refused with an
// error, because the credentials are not for them.
type Transport struct {
	origin *url.URL
	// api is what comes before the repository's name in paths. nonstandard says
	// that it is not the specification's: then only the registry knows the names
	// of its scopes.
	api         string
	nonstandard bool
	creds       upstream.Credentials
	next        http.RoundTripper
	tokens      tokens

	mu      sync.Mutex
	learned authMethod
}

// authMethod is how the registry wants credentials.
type authMethod struct {
	basic          bool
	realm, service string // Bearer
}

// defaultAPI is where the specification puts a registry's API.
const defaultAPI = "/v2"

// NewTransport authenticates requests to u and sends them through next. root is
// where the registry's API is: "/v2", "/below/v2", or "/v2/project" where the
// registry's own names have a prefix.
func NewTransport(u upstream.Upstream, root string, next http.RoundTripper) *Transport {
	before, _, standard := strings.Cut(root+"/", defaultAPI+"/")
	api := root
	if standard {
		api = before + defaultAPI
	}
	t := &Transport{
		origin:      &url.URL{Scheme: string(u.Scheme), Host: u.Host},
		api:         api,
		nonstandard: !standard,
		creds:       u.Credentials,
		next:        next,
	}
	t.tokens = tokens{fetch: t.fetchToken, now: time.Now}
	return t
}

// RoundTrip sends the request with what is known, and once more when the
// registry asks for something else: after a first challenge, or when it refuses
// a token before the token expires.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !SameOrigin(req.URL, t.origin) {
		return nil, fmt.Errorf("%s is not %s: its credentials are not for it", req.URL.Host, t.origin.Host)
	}
	scope := scopeOf(t.api, req.URL.Path)
	header, err := t.authorization(req, t.known(), scope, scope)
	if err != nil {
		return nil, err
	}
	resp, err := t.send(req, header)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	next, wanted, ok := t.learn(resp.Header, scope)
	if !ok {
		return resp, nil // nothing else to offer: refused
	}
	if next.basic && header == t.basicHeader() {
		return resp, nil
	}
	t.tokens.forget(scope, strings.TrimPrefix(header, "Bearer "))
	header, err = t.authorization(req, next, scope, wanted)
	Discard(resp)
	if err != nil {
		return nil, err
	}
	return t.send(req, header)
}

func (t *Transport) send(req *http.Request, authorization string) (*http.Response, error) {
	out := req.Clone(req.Context()) // a RoundTripper must not change what it was given
	out.Header.Del("Authorization")
	if authorization != "" {
		out.Header.Set("Authorization", authorization)
	}
	return t.next.RoundTrip(out)
}

// known is what was learned so far; zero before the first challenge.
func (t *Transport) known() authMethod {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.learned
}

// authorization is what a request carries; empty if the registry wants nothing.
func (t *Transport) authorization(req *http.Request, w authMethod, scope, wanted string) (string, error) {
	switch {
	case w.basic:
		return t.basicHeader(), nil
	case w.realm != "":
		token, err := t.tokens.get(req.Context(), scope, tokenRequest{realm: w.realm, service: w.service, scope: wanted})
		if err != nil {
			return "", err
		}
		return "Bearer " + token, nil
	default:
		return "", nil
	}
}

// learn picks from the challenges of a 401 one that we can answer. Bearer goes
// before Basic: registries that offer both prefer it. ok is false when we can
// answer none. wanted is the scope to ask for.
func (t *Transport) learn(header http.Header, scope string) (w authMethod, wanted string, ok bool) {
	var basic bool
	for _, c := range parseChallenges(header) {
		switch {
		case c.scheme == "bearer" && c.params["realm"] != "":
			wanted = scope
			if s := c.params["scope"]; scope == "" || strings.HasPrefix(s, scope) || t.nonstandard && s != "" {
				wanted = s // the registry may want more than pull for a pull, never another repository
			}
			return t.remember(authMethod{realm: c.params["realm"], service: c.params["service"]}), wanted, true
		case c.scheme == "basic":
			basic = true
		}
	}
	if !basic || t.creds.IsZero() {
		return authMethod{}, "", false
	}
	return t.remember(authMethod{basic: true}), "", true
}

func (t *Transport) remember(w authMethod) authMethod {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.learned = w
	return w
}

func (t *Transport) basicHeader() string {
	if t.creds.IsZero() {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(t.creds.Username+":"+t.creds.Password))
}

// scopeOf is the token scope of a pull request; empty for /v2/ itself.
func scopeOf(api, path string) string {
	rest, ok := strings.CutPrefix(path, api+"/")
	if !ok {
		return ""
	}
	for _, part := range []string{"/manifests/", "/blobs/", "/referrers/", "/tags/list"} {
		if i := strings.LastIndex(rest, part); i > 0 {
			return "repository:" + rest[:i] + ":pull"
		}
	}
	return ""
}

// Discard reads what remains of a small body, so that the connection can be used
// again.
func Discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // a failure only costs the connection
	_ = resp.Body.Close()
}
