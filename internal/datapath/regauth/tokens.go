package regauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// A token without expires_in lives 60 s, says the token specification.
	defaultTokenLife = 60 * time.Second
	maxTokenLife     = 24 * time.Hour
	// tokenFetchLimit bounds a fetch. It does not end with the request that began
	// it: others may wait for it.
	tokenFetchLimit = 15 * time.Second
	maxTokenAnswer  = 1 << 20
	maxTokens       = 1024
	// maxTokenSize is that of the largest token that is kept, in bytes. Most servers take
	// no larger header.
	maxTokenSize = 16 << 10
)

// tokenRequest is what a token server is asked, and so what a token is good for. All
// requests of a Transport have the same credentials.
type tokenRequest struct{ realm, service, scope string }

// tokens keeps one token per request of one, with one fetch of each in flight.
type tokens struct {
	fetch func(context.Context, tokenRequest) (string, time.Duration, error)
	now   func() time.Time
	told  func(error) // of each fetch; may be nil

	flight singleflight.Group
	mu     sync.Mutex
	byID   map[tokenRequest]cached
}

type cached struct {
	token string
	until time.Time
}

// get returns the kept token or fetches one.
func (s *tokens) get(ctx context.Context, req tokenRequest) (string, error) {
	if token, ok := s.kept(req); ok {
		return token, nil
	}
	result := s.flight.DoChan(req.realm+"\n"+req.service+"\n"+req.scope, func() (any, error) {
		if token, ok := s.kept(req); ok {
			return token, nil // fetched while we came here
		}
		// The request that began the fetch may end; the others must not fail.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenFetchLimit)
		defer cancel()
		token, life, err := s.fetch(ctx, req)
		if s.told != nil {
			s.told(err)
		}
		if err != nil {
			return "", err
		}
		s.keep(req, token, life)
		return token, nil
	})
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("wait for a token: %w", context.Cause(ctx))
	case r := <-result:
		token, _ := r.Val.(string)
		return token, r.Err
	}
}

func (s *tokens) kept(req tokenRequest) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.byID[req]
	return c.token, ok && s.now().Before(c.until)
}

// keep remembers a token for nine tenths of its life, so that it does not
// expire on the way.
func (s *tokens) keep(req tokenRequest, token string, life time.Duration) {
	if len(token) > maxTokenSize {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.byID == nil {
		s.byID = make(map[tokenRequest]cached)
	}
	if len(s.byID) >= maxTokens {
		clear(s.byID) // more repositories than any platform has: start over
	}
	s.byID[req] = cached{token: token, until: now.Add(life - life/10)}
}

// forget drops a token if it is still the given one: another request may have
// fetched a better one already.
func (s *tokens) forget(req tokenRequest, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[req].token == token {
		delete(s.byID, req)
	}
}

// fetchToken asks the realm. The realm may be another host, as is usual, but
// our password goes there only over a scheme as good as the registry's own.
func (t *Transport) fetchToken(ctx context.Context, ask tokenRequest) (string, time.Duration, error) {
	realm, err := url.Parse(ask.realm)
	if err != nil {
		return "", 0, &TokenError{Host: "of " + t.origin.Host, text: "its realm is not a URL"}
	}
	if err := ValidateHop(t.origin, realm); err != nil {
		return "", 0, fmt.Errorf("token realm: %w", err)
	}
	if t.origin.Scheme == "https" && realm.Scheme != "https" {
		return "", 0, fmt.Errorf("token realm %s: %w: not https, the registry is", realm.Host, ErrForbiddenHop)
	}
	query := realm.Query()
	if ask.service != "" {
		query.Set("service", ask.service)
	}
	for s := range strings.FieldsSeq(ask.scope) {
		query.Add("scope", s)
	}
	realm.RawQuery = query.Encode()
	realm.Fragment = ""
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return "", 0, &TokenError{Host: "of " + t.origin.Host, text: "its realm is not a URL"}
	}
	if h := t.basicHeader(); h != "" {
		req.Header.Set("Authorization", h)
	}
	resp, err := t.askRealm(req)
	if said := (*TokenError)(nil); errors.As(err, &said) {
		return "", 0, err // which names it
	}
	if err != nil {
		return "", 0, fmt.Errorf("token server %s: %w", realm.Host, err)
	}
	defer Discard(resp)
	return readToken(realm.Host, resp, !t.creds.IsZero())
}

// mostRealmRedirects is how many redirects of a token server are followed, as by
// containerd.
const mostRealmRedirects = 10

// askRealm follows redirects within the token server: some add a slash, or go from
// HTTP to HTTPS. Elsewhere they would take the password.
func (t *Transport) askRealm(req *http.Request) (*http.Response, error) {
	for range mostRealmRedirects + 1 {
		resp, err := t.next.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		location := resp.Header.Get("Location")
		if resp.StatusCode/100 != 3 || location == "" {
			return resp, nil
		}
		Discard(resp)
		to, err := req.URL.Parse(location)
		if err != nil || to.User != nil || !SameServer(req.URL, to) {
			return nil, fmt.Errorf("%w: it redirects to another server", ErrForbiddenHop)
		}
		to.Fragment = ""
		req = req.Clone(req.Context())
		req.URL, req.Host = to, ""
	}
	return nil, &TokenError{Host: req.URL.Host, text: fmt.Sprintf("more than %d redirects", mostRealmRedirects)}
}

// readToken reads a token server's answer. shown says whether it was shown our
// credentials.
func readToken(host string, resp *http.Response, shown bool) (string, time.Duration, error) {
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		reason := "refused us although we had no credentials to show"
		if shown {
			reason = "refused the credentials"
		}
		return "", 0, &RefusedError{Host: "token server " + host, Status: resp.StatusCode, Reason: reason}
	default:
		return "", 0, &TokenError{Host: host, Status: resp.StatusCode, Header: resp.Header, text: resp.Status}
	}
	var answer struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxTokenAnswer)).Decode(&answer); err != nil {
		// The decoder's own error may quote the answer, and so the token.
		return "", 0, &TokenError{Host: host, Status: resp.StatusCode, text: "the answer is not JSON"}
	}
	token := cmp.Or(answer.Token, answer.AccessToken)
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", 0, &TokenError{Host: host, Status: resp.StatusCode, text: "no usable token in the answer"}
	}
	return token, lifeOf(answer.ExpiresIn), nil
}

// lifeOf is how long a token may be used. Some servers send the seconds as a
// string. What is no positive number is as if it were absent: the token is good
// all the same.
func lifeOf(expiresIn json.RawMessage) time.Duration {
	seconds, err := strconv.ParseFloat(strings.Trim(string(expiresIn), `"`), 64)
	if err != nil || !(seconds > 0) {
		return defaultTokenLife
	}
	return time.Duration(min(seconds, maxTokenLife.Seconds()) * float64(time.Second))
}
