package precheck

import (
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/d8-registry/registry/internal/upstream"
)

// asked remembers where requests went.
type asked struct {
	mu   sync.Mutex
	urls []string
}

func (a *asked) RoundTrip(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.urls = append(a.urls, req.URL.String())
	return nil, errors.New("nobody is there")
}

func TestDockerHubIsAskedWhereItIs(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"team": "https://registry-1.docker.io/v2/team/alpha/manifests/v1",
		"":     "https://registry-1.docker.io/v2/library/alpha/manifests/v1",
	} {
		to := &asked{}
		c := Checker{Transport: func(upstream.Upstream) (http.RoundTripper, error) { return to, nil }}
		u := upstream.Upstream{Host: "docker.io", Path: path, Scheme: upstream.HTTPS}
		report := c.Check(t.Context(), Request{Upstream: u, Images: []string{"alpha:v1"}})
		if len(to.urls) == 0 || to.urls[0] != want || report.Problem == "" {
			t.Errorf("asked %v, want %s; the report is %+v", to.urls, want, report)
		}
	}
}
