package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/fronts"
)

// split is a server without TLS that sends what reads to the front and all else, pushes
// above all, straight to the registry behind it. Without a front all goes there.
type split struct {
	front    *fronts.Front
	through  http.RoundTripper // to the front
	straight http.RoundTripper
	upstream upstream.Upstream
}

// newSplit returns the server's address.
func newSplit(t *testing.T, u upstream.Upstream, front *fronts.Front) string {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(u.CA))
	straight := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(straight.CloseIdleConnections)
	s := &split{front: front, straight: straight, upstream: u}
	if front != nil {
		s.through = front.Transport(t)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: s,
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.Host = "" }, // the URL says where
	})
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func (s *split) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Scheme = "https"
	ours := "/v2/" + layout.Fixed().Path + "/"
	named := req.URL.Path == "/v2/" || strings.HasPrefix(req.URL.Path, ours) && !strings.Contains(req.URL.Path, "/blobs/uploads/")
	if s.front != nil && named && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		req.URL.Host = s.front.Address
		if s.front.Username != "" {
			req.SetBasicAuth(s.front.Username, s.front.Password)
		}
		return s.through.RoundTrip(req)
	}
	req.URL.Host = s.upstream.Host
	if rest, ok := strings.CutPrefix(req.URL.Path, ours); ok {
		req.URL.Path, req.URL.RawPath = "/v2/"+s.upstream.Path+"/"+rest, ""
	}
	if query := req.URL.Query(); query.Has("from") { // the repository that a blob is mounted from
		query.Set("from", strings.Replace(query.Get("from"), layout.Fixed().Path, s.upstream.Path, 1))
		req.URL.RawQuery = query.Encode()
	}
	req.SetBasicAuth(s.upstream.Credentials.Username, s.upstream.Credentials.Password)
	resp, err := s.straight.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if to, err := url.Parse(resp.Header.Get("Location")); err == nil && to.Host != "" {
		to.Scheme, to.Host = "", "" // the next request of the push comes here too
		resp.Header.Set("Location", to.String())
	}
	return resp, nil
}
