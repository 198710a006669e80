package regauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// get asks for a manifest through a new transport over plain HTTP.
func get(t *testing.T, rt http.RoundTripper, u upstream.Upstream, repo string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, string(u.Scheme)+"://"+u.Host+"/v2/"+repo+"/manifests/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic Y2xpZW50OnNlY3JldA==") // must be replaced
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if req.Header.Get("Authorization") != "Basic Y2xpZW50OnNlY3JldA==" {
		t.Error("the request was changed, which a RoundTripper must not do")
	}
	return resp.StatusCode, nil
}

func base(t *testing.T) *http.Transport {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func TestEachRepositoryHasItsToken(t *testing.T) {
	t.Parallel()
	r := testregistry.New(t, testregistry.Options{Username: "u", Password: "p", Bearer: true})
	r.PushRandom(t, "a/x", "v1", 1, 10)
	r.PushRandom(t, "a/y", "v1", 1, 10)
	rt := NewTransport(r.Upstream(""), "/v2", base(t))
	for range 2 {
		for _, repo := range []string{"a/x", "a/y"} {
			if status, err := get(t, rt, r.Upstream(""), repo); status != http.StatusOK {
				t.Fatalf("%s: %d %v", repo, status, err)
			}
		}
	}
	if n := r.TokenRequests(); n != 2 {
		t.Errorf("%d token requests, want one for each repository", n)
	}
}

func TestTokenIsFetchedAgainShortlyBeforeItExpires(t *testing.T) {
	t.Parallel()
	r := testregistry.New(t, testregistry.Options{Bearer: true, TokenTTL: 100 * time.Second})
	r.PushRandom(t, "a/x", "v1", 1, 10)
	rt := NewTransport(r.Upstream(""), "/v2", base(t))
	now := time.Now()
	rt.tokens.now = func() time.Time { return now }
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {80 * time.Second, 1}, {91 * time.Second, 2}} {
		rt.tokens.now = func() time.Time { return now.Add(step.after) }
		if status, err := get(t, rt, r.Upstream(""), "a/x"); status != http.StatusOK {
			t.Fatalf("%d %v", status, err)
		}
		if n := r.TokenRequests(); n != step.want {
			t.Errorf("after %s: %d token requests, want %d", step.after, n, step.want)
		}
	}
}

// The client who began a fetch may leave; who waits for it is served.
func TestFetchSurvivesWhoBeganIt(t *testing.T) {
	t.Parallel()
	began, let := make(chan struct{}), make(chan struct{})
	var fetches atomic.Int32
	s := &tokens{now: time.Now, fetch: func(ctx context.Context, _ tokenRequest) (string, time.Duration, error) {
		fetches.Add(1)
		close(began)
		select {
		case <-let:
			return "token", time.Minute, nil
		case <-ctx.Done():
			return "", 0, ctx.Err()
		}
	}}
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.get(ctx, tokenRequest{}); !errors.Is(err, context.Canceled) {
			t.Errorf("who left: %v", err)
		}
	})
	<-began
	for range 5 {
		wg.Go(func() {
			if token, err := s.get(t.Context(), tokenRequest{}); token != "token" {
				t.Errorf("who waited: %q %v", token, err)
			}
		})
	}
	leave()
	<-time.After(20 * time.Millisecond) // who comes later is served from what was kept, so a race here fails nothing
	close(let)
	wg.Wait()
	if fetches.Load() != 1 {
		t.Errorf("%d fetches", fetches.Load())
	}
}

// Where our password must not go.
func TestRealmsThatGetNoPassword(t *testing.T) {
	t.Parallel()
	var reached atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	t.Cleanup(elsewhere.Close)
	for name, realm := range map[string]string{
		"plain http": elsewhere.URL + "/token",
		"metadata":   "https://169.254.169.254/token",
		"userinfo":   "https://a:b@localhost/token",
		"no URL":     "://",
		"file":       "file:///token",
	} {
		r := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(r.Close)
		u := upstream.Upstream{Host: r.Listener.Addr().String(), Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: "p-secret"}}
		rt := NewTransport(u, "/v2", r.Client().Transport)
		status, err := get(t, rt, u, "a")
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %d %v", name, status, err)
		}
	}
	if reached.Load() {
		t.Error("a password went over plain HTTP")
	}
}

// A token server's redirects are followed as containerd follows them, but no password
// leaves it.
func TestRedirectsOfATokenServer(t *testing.T) {
	t.Parallel()
	var reached atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	t.Cleanup(elsewhere.Close)
	for name, tc := range map[string]struct {
		location string // of the token server; %s is its own host
		ok       bool
	}{
		"a slash more":      {"/token/", true},
		"the whole address": {"http://%s/other?service=x&scope=y", true},
		"another port":      {elsewhere.URL + "/token", false},
		"another name":      {"http://localhost/token", false},
		"user info":         {"http://a:b@%s/other", false},
		"no URL":            {"http://[::1/%%zz", false},
		"itself for ever":   {"/token", false},
	} {
		r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			name, password, _ := req.BasicAuth()
			switch {
			case req.URL.Path == "/token":
				w.Header().Set("Location", strings.ReplaceAll(tc.location, "%s", req.Host))
				w.WriteHeader(http.StatusMovedPermanently)
			case strings.HasPrefix(req.URL.Path, "/v2/") && req.Header.Get("Authorization") == "Bearer good":
			case strings.HasPrefix(req.URL.Path, "/v2/"):
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+req.Host+`/token"`)
				w.WriteHeader(http.StatusUnauthorized)
			case name == "u" && password == "p":
				_, _ = w.Write([]byte(`{"token":"good"}`))
			}
		}))
		t.Cleanup(r.Close)
		u := upstream.Upstream{Host: r.Listener.Addr().String(), Scheme: upstream.HTTP, Credentials: upstream.Credentials{Username: "u", Password: "p"}}
		status, err := get(t, NewTransport(u, "/v2", base(t)), u, "a")
		if (err == nil && status == http.StatusOK) != tc.ok {
			t.Errorf("%s: %d %v", name, status, err)
		}
		if err != nil && !strings.Contains(err.Error(), "redirect") {
			t.Errorf("%s: message %q", name, err)
		}
	}
	if reached.Load() {
		t.Error("a password went to another server")
	}
}

func TestRequestsToOtherHostsAreRefused(t *testing.T) {
	t.Parallel()
	r := testregistry.New(t, testregistry.Options{})
	u := r.Upstream("")
	other := u
	other.Host = "other.example.com"
	if _, err := get(t, NewTransport(other, "/v2", base(t)), u, "a"); err == nil || len(r.Requests()) > 0 {
		t.Error("credentials of one host went to another")
	}
}

func TestTokenAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status  int
		body    string
		token   string
		life    time.Duration
		refused bool
	}{
		{200, `{"token":"t","expires_in":120}`, "t", 2 * time.Minute, false},
		{200, `{"access_token":"t"}`, "t", time.Minute, false},
		{200, `{"token":"t","expires_in":999999999}`, "t", 24 * time.Hour, false},
		{200, `{"token":"t","expires_in":"300"}`, "t", 5 * time.Minute, false}, // as some servers send it
		{200, `{"token":"t","expires_in":3599.5}`, "t", 3599500 * time.Millisecond, false},
		{200, `{"token":"t","expires_in":"soon"}`, "t", time.Minute, false},
		{200, `{"token":"t","expires_in":null}`, "t", time.Minute, false},
		{200, `{"token":"t","expires_in":{}}`, "t", time.Minute, false},
		{200, `{"token":"t","expires_in":-1}`, "t", time.Minute, false},
		{200, `{"token":"t","expires_in":"NaN"}`, "t", time.Minute, false},
		{200, `{"token":"t","expires_in":1e999}`, "t", time.Minute, false},
		{200, `{}`, "", 0, false},
		{200, `{"token":"a\r\nb"}`, "", 0, false},
		{200, `token-secret`, "", 0, false},
		{401, `{}`, "", 0, true},
		{403, `{}`, "", 0, true},
		{503, ``, "", 0, false},
		{302, ``, "", 0, false},
	} {
		resp := &http.Response{StatusCode: tc.status, Status: "x", Body: io.NopCloser(strings.NewReader(tc.body))}
		token, life, err := readToken("auth.example.com", resp, true)
		var refused *RefusedError
		if token != tc.token || life != tc.life || (err == nil) != (tc.token != "") || errors.As(err, &refused) != tc.refused {
			t.Errorf("%d %s: %q %s %v", tc.status, tc.body, token, life, err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "auth.example.com")) {
			t.Errorf("%d %s: message %q", tc.status, tc.body, err)
		}
	}
}

func TestTokensAreBounded(t *testing.T) {
	t.Parallel()
	s := &tokens{now: time.Now}
	for i := range maxTokens * 2 {
		s.keep(tokenRequest{scope: string(rune(i))}, "t", time.Minute)
	}
	s.keep(tokenRequest{scope: "large"}, strings.Repeat("t", maxTokenSize+1), time.Minute)
	if _, large := s.kept(tokenRequest{scope: "large"}); large || len(s.byID) > maxTokens {
		t.Errorf("%d tokens are kept, a large one: %v", len(s.byID), large)
	}
}

// TestWhatIsLearnedIsBounded: by the length of what a registry may say too.
func TestWhatIsLearnedIsBounded(t *testing.T) {
	t.Parallel()
	rt := NewTransport(upstream.Upstream{Host: "registry.example", Scheme: upstream.HTTPS}, "/v2", base(t))
	long := strings.Repeat("x", maxChallenge)
	said := http.Header{"Www-Authenticate": {`Bearer realm="https://r/` + long + `"`}}
	if m, ok := rt.learn(said, slot{key: "a"}); ok {
		t.Errorf("a challenge of %d bytes is kept", len(m.token.realm))
	}
	rt.keep(slot{key: long}, authMethod{})
	if len(rt.slots) > 0 {
		t.Errorf("%d slots are kept", len(rt.slots))
	}
}
