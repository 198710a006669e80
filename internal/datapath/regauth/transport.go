package regauth

import (
	"context"
	"fmt"
	"io"
	"maps"
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

// TokenError says that a token server answered, refused nobody, and gave no token.
type TokenError struct {
	Host   string
	Status int
	Header http.Header
	text   string
}

// Error names the host and what it answered.
func (e *TokenError) Error() string { return "token server " + e.Host + ": " + e.text }

// Transport is an http.RoundTripper that speaks to one upstream with its
// credentials. It learns from challenges how the registry wants them and keeps
// tokens, each for what it is good for, until shortly before they expire.
//
// A 401 or 403 that it returns means that we were refused, with what Shown says.
// Requests must be to the upstream's own server; others are refused with an error,
// because the credentials are not for them.
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
	learned authMethod            // from the last challenge: the best guess for what was not asked before
	slots   map[string]authMethod // what the last challenge for the same thing asked for
}

// authMethod is how the registry wants credentials for one thing.
type authMethod struct {
	basic bool
	token tokenRequest // Bearer, if it has a realm
}

// slot is one thing that a Transport asks for. Whatever is learned or fetched for one
// is used for no other: a token is good for the repositories that it names.
type slot struct {
	key   string
	scope string // by the specification; empty if no repository is meant
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
		origin:      u.Origin(),
		api:         api,
		nonstandard: !standard,
		creds:       u.Credentials,
		next:        next,
	}
	t.tokens = tokens{fetch: t.fetchToken, now: time.Now}
	return t
}

// TellTokens has told called for each token that is asked for, with why there is none. It
// comes before the first request.
func (t *Transport) TellTokens(told func(error)) { t.tokens.told = told }

// RoundTrip sends the request with what is known, and once more when the
// registry asks for something else: after a first challenge, or when it refuses
// a token before the token expires.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !SameServer(t.origin, req.URL) {
		return nil, fmt.Errorf("%s is not %s: its credentials are not for it", req.URL.Host, t.origin.Host)
	}
	s := t.slotOf(req)
	method := t.known(s)
	header, err := t.authorization(req.Context(), method)
	if err != nil {
		return nil, err
	}
	resp, err := t.send(req, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusUnauthorized {
		t.keep(s, method)
		return resp, nil
	}
	next, ok := t.learn(resp.Header, s)
	if !ok || next.basic && method.basic {
		return resp, nil // nothing else to offer: refused
	}
	if next == method { // else it may be good for what it was got for
		t.tokens.forget(method.token, strings.TrimPrefix(header, "Bearer "))
	}
	header, err = t.authorization(req.Context(), next)
	Discard(resp)
	if err != nil {
		return nil, err
	}
	return t.send(req, header)
}

type shownKey struct{}

// Shown reports whether a request that was sent carried an upstream's credentials, or
// a token that they had got. A token that everybody gets is no credential.
func Shown(sent *http.Request) bool {
	if sent == nil {
		return false
	}
	shown, _ := sent.Context().Value(shownKey{}).(bool)
	return shown
}

func (t *Transport) send(req *http.Request, authorization string) (*http.Response, error) {
	shown := authorization != "" && !t.creds.IsZero()
	out := req.WithContext(context.WithValue(req.Context(), shownKey{}, shown)) // a RoundTripper must not change what it was given
	out.Header = maps.Clone(req.Header)
	out.Header.Del("Authorization")
	if authorization != "" {
		out.Header.Set("Authorization", authorization)
	}
	return t.next.RoundTrip(out)
}

// known is what a challenge for the same thing asked for, else the last one's way
// with a scope of this one's; zero before the first challenge.
func (t *Transport) known(s slot) authMethod {
	t.mu.Lock()
	defer t.mu.Unlock()
	if method, ok := t.slots[s.key]; ok {
		return method
	}
	guess := t.learned
	guess.token.scope = s.scope
	return guess
}

// authorization is what a request carries; empty if the registry wants nothing.
func (t *Transport) authorization(ctx context.Context, m authMethod) (string, error) {
	switch {
	case m.basic:
		return t.basicHeader(), nil
	case m.token.realm != "":
		token, err := t.tokens.get(ctx, m.token)
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
// answer none.
func (t *Transport) learn(header http.Header, s slot) (m authMethod, ok bool) {
	var basic bool
	for _, c := range parseChallenges(header) {
		switch {
		case c.scheme == "bearer" && c.params["realm"] != "" && c.size() <= maxChallenge:
			scope := union(s.scope, c.params["scope"])
			if t.nonstandard && c.params["scope"] != "" {
				scope = c.params["scope"]
			}
			return t.remember(s, authMethod{token: tokenRequest{realm: c.params["realm"], service: c.params["service"], scope: scope}}), true
		case c.scheme == "basic":
			basic = true
		}
	}
	if !basic || t.creds.IsZero() {
		return authMethod{}, false
	}
	return t.remember(s, authMethod{basic: true}), true
}

const (
	// maxSlots bounds what is remembered: more than any platform has.
	maxSlots = 4096
	// maxKey is that of the longest key, in bytes: a registry may redirect to long paths.
	maxKey = 1 << 10
)

func (t *Transport) remember(s slot, m authMethod) authMethod {
	t.keep(s, m)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.learned = m
	return m
}

// keep notes what was good for a slot, or will be.
func (t *Transport) keep(s slot, m authMethod) {
	if len(s.key) > maxKey {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, ok := t.slots[s.key]; ok && known == m {
		return
	}
	if t.slots == nil || len(t.slots) >= maxSlots {
		t.slots = map[string]authMethod{}
	}
	t.slots[s.key] = m
}

func (t *Transport) basicHeader() string {
	if t.creds.IsZero() {
		return ""
	}
	return "Basic " + t.creds.Auth()
}

// Discard reads what remains of a small body, so that the connection can be used
// again.
func Discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // a failure only costs the connection
	_ = resp.Body.Close()
}
