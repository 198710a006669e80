package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
)

// TestBehindAProxyNobodyIsAskedDirectly: also not why a connection was closed.
func TestBehindAProxyNobodyIsAskedDirectly(t *testing.T) {
	t.Parallel()
	var past atomic.Int32
	base := &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.example"}),
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			if address != "proxy.example:80" {
				past.Add(1)
			}
			ours, theirs := net.Pipe()
			go func() {
				_, _ = http.ReadRequest(bufio.NewReader(theirs))
				_, _ = io.WriteString(theirs, "HTTP/1.1 200 OK\r\n\r\n")
				_, _ = theirs.Read(make([]byte, 16<<10)) // all of its first words
				_ = theirs.Close()
			}()
			return ours, nil
		},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://registry.example/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := onlyHTTP2{base}.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if n := past.Load(); err == nil || n > 0 {
		t.Errorf("%d connections past the proxy; %v", n, err)
	}
}
