package proxy

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

func TestUpstreamsOfEachKindOfAuthentication(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]testregistry.Options{
		"anonymous":        {},
		"basic":            {TLS: true, Username: "u", Password: "p:\"ü"},
		"bearer":           {TLS: true, Username: "u", Password: "p", Bearer: true},
		"anonymous bearer": {TLS: true, Bearer: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _, img := pair(t, o)
			s := start(t, Config{}, a.Upstream("team/a"))
			digest, content := blob(t, img)
			for range 3 {
				wantStatus(t, s.do(http.MethodHead, manifestPath), http.StatusOK)
				wantStatus(t, s.get(manifestPath), http.StatusOK)
				wantBlob(t, s.get(blobPath(digest)), content)
			}
			if o.Bearer && a.TokenRequests() != 1 {
				t.Errorf("%d token requests for one repository, want 1", a.TokenRequests())
			}
			refused := a.Count(func(r testregistry.Request) bool { return r.Status == http.StatusUnauthorized })
			if refused > 1 {
				t.Errorf("%d requests were challenged, want the first only", refused)
			}
			for _, r := range a.Requests() {
				for _, scope := range strings.Split(r.Query, "&") {
					if strings.HasPrefix(scope, "scope=") && scope != "scope=repository%3Ateam%2Fa%2Ftool%3Apull" {
						t.Errorf("token scope %s is not the upstream's name", scope)
					}
				}
			}
		})
	}
}

// A refusal of our credentials is our failure: 502 that says so, never a 401
// that the client would answer with its own.
func TestRefusedCredentialsAreABadGateway(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		o       testregistry.Options
		creds   upstream.Credentials
		message string
	}{
		"basic, wrong":     {testregistry.Options{TLS: true, Username: "u", Password: "p"}, upstream.Credentials{Username: "u", Password: "wrong-secret"}, "refused the credentials: 401"},
		"basic, none":      {testregistry.Options{TLS: true, Username: "u", Password: "p"}, upstream.Credentials{}, "refused us although we had no credentials to show: 401"},
		"bearer, wrong":    {testregistry.Options{TLS: true, Username: "u", Password: "p", Bearer: true}, upstream.Credentials{Username: "u", Password: "wrong-secret"}, "token server"},
		"bearer, none":     {testregistry.Options{TLS: true, Username: "u", Password: "p", Bearer: true}, upstream.Credentials{}, "token server"},
		"plain http basic": {testregistry.Options{Username: "u", Password: "p"}, upstream.Credentials{Username: "u", Password: "wrong-secret"}, "refused the credentials: 401"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _, _ := pair(t, tc.o)
			u := a.Upstream("team/a")
			u.Credentials = tc.creds
			s := start(t, Config{}, u)
			got := s.get(manifestPath, "Authorization", "Basic Y2xpZW50OnNlY3JldA==")
			wantStatus(t, got, http.StatusBadGateway)
			if got.header.Get("Www-Authenticate") != "" {
				t.Error("a challenge reached the client")
			}
			m := got.errors(t)[0].Message
			if !strings.Contains(m, a.Host()) || !strings.Contains(m, tc.message) {
				t.Errorf("message %q does not name the host and %q", m, tc.message)
			}
			if all := s.logged() + m; strings.Contains(all, "wrong-secret") {
				t.Error("a password in a message or the log")
			}
		})
	}
}

func TestManyRequestsFetchOneToken(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{TLS: true, Bearer: true, Username: "u", Password: "p"})
	s := start(t, Config{}, a.Upstream("team/a"))
	wantStatus(t, s.get(manifestPath), http.StatusOK) // the challenge is known
	a.ExpireTokens()
	a.ResetLog()
	a.SetFaults(testregistry.Faults{Latency: 200 * time.Millisecond, Match: func(r *http.Request) bool { return r.URL.Path == "/token" }})
	digest, content := blob(t, img)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := s.get(blobPath(digest)); got.status != 200 || len(got.body) != len(content) {
				t.Errorf("%d, %d bytes", got.status, len(got.body))
			}
		})
	}
	wg.Wait()
	if n := a.TokenRequests(); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

func TestTokenThatTheRegistryForgot(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{TLS: true, Bearer: true, Username: "u", Password: "p"})
	s := start(t, Config{}, a.Upstream("team/a"))
	digest, content := blob(t, img)
	for range 3 {
		a.ExpireTokens()
		wantBlob(t, s.get(blobPath(digest)), content)
	}
	// Also in the middle of a body that breaks.
	a.ExpireTokens()
	a.SetFaults(testregistry.Faults{CutAfter: 100_000, Times: 2, Match: isBlob})
	wantBlob(t, s.get(blobPath(digest)), content)
}
