package transport

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/upstream"
)

// network answers requests by their URL without query, and notes what they showed.
type network struct {
	t       *testing.T
	answers map[string]string // "METHOD url" or "url": "status", "-> location", "bearer realm"
	mu      sync.Mutex
	shown   []string
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	where := req.URL.Scheme + "://" + req.URL.Host + req.URL.Path
	authorization, _, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	n.mu.Lock()
	n.shown = append(n.shown, strings.TrimSpace(req.Method+" "+where+" "+authorization))
	n.mu.Unlock()
	answer, ok := n.answers[req.Method+" "+where]
	if !ok {
		answer = n.answers[where]
	}
	resp := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Request: req, Body: io.NopCloser(strings.NewReader(`{"token":"t"}`))}
	what, value, _ := strings.Cut(answer, " ")
	switch what {
	case "->":
		resp.StatusCode = http.StatusTemporaryRedirect
		resp.Header.Set("Location", value)
	case "bearer":
		if authorization != "Bearer" {
			resp.StatusCode = http.StatusUnauthorized
			resp.Header.Set("WWW-Authenticate", `Bearer realm="`+value+`"`)
		}
	case "basic":
		if authorization != "Basic" {
			resp.StatusCode = http.StatusUnauthorized
			resp.Header.Set("WWW-Authenticate", `Basic realm="x"`)
		}
	case "refused":
		resp.StatusCode = http.StatusForbidden
	}
	return resp, nil
}

// TestWhereCredentialsAreShown: to the registry itself, and to nobody that it sends
// us to.
func TestWhereCredentialsAreShown(t *testing.T) {
	t.Parallel()
	const path = "/v2/a/manifests/v1"
	for name, tc := range map[string]struct {
		scheme, method string
		answers        map[string]string
		status         int
		asked          []string // the last requests, with what they showed
	}{
		"from http to https of the same host": {"http", "GET", map[string]string{
			"http://r.example.com" + path:  "-> https://r.example.com" + path,
			"https://r.example.com" + path: "basic",
		}, 200, []string{"GET https://r.example.com" + path, "GET https://r.example.com" + path + " Basic"}},
		"another registry with tokens for everybody": {"https", "GET", map[string]string{
			"https://r.example.com" + path:     "-> https://other.example.com" + path,
			"https://other.example.com" + path: "bearer https://tokens.example.com/token",
		}, 200, []string{"GET https://tokens.example.com/token", "GET https://other.example.com" + path + " Bearer"}},
		"another registry with passwords": {"https", "GET", map[string]string{
			"https://r.example.com" + path:     "-> https://other.example.com" + path,
			"https://other.example.com" + path: "basic",
		}, 401, []string{"GET https://other.example.com" + path}},
		"there and back": {"https", "GET", map[string]string{
			"https://r.example.com" + path:     "-> https://other.example.com" + path,
			"https://other.example.com" + path: "-> https://r.example.com/again",
			"https://r.example.com/again":      "basic",
		}, 401, []string{"GET https://r.example.com/again"}},
		"a HEAD to where GET was signed for": {"https", "HEAD", map[string]string{
			"https://r.example.com" + path:     "-> https://store.example.com/x?signature=secret",
			"HEAD https://store.example.com/x": "refused",
		}, 200, []string{"HEAD https://store.example.com/x", "GET https://store.example.com/x"}},
		"without end": {"https", "GET", map[string]string{"https://r.example.com" + path: "-> " + path}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := &network{t: t, answers: tc.answers}
			u := upstream.Upstream{Host: "r.example.com", Scheme: upstream.Scheme(tc.scheme), Credentials: upstream.Credentials{Username: "u", Password: "p"}}
			origin := &url.URL{Scheme: tc.scheme, Host: u.Host}
			chain := redirected{origin: origin, authorized: regauth.NewTransport(u, oci.Root, n), others: &strangers{base: n}}
			req, err := http.NewRequestWithContext(t.Context(), tc.method, origin.String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := chain.RoundTrip(req)
			if tc.status == 0 {
				if err == nil || len(n.shown) != maxRedirect+1 {
					t.Errorf("%v after %d requests", err, len(n.shown))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != tc.status || resp.Request.Method != tc.method {
				t.Errorf("%s %d", resp.Request.Method, resp.StatusCode)
			}
			if got := n.shown[max(0, len(n.shown)-len(tc.asked)):]; !slices.Equal(got, tc.asked) {
				t.Errorf("asked %q, want it to end with %q", n.shown, tc.asked)
			}
		})
	}
}
