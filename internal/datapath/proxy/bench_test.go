package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// BenchmarkBlob streams one layer over loopback without TLS, so that it
// measures the path and not the store.
func BenchmarkBlob(b *testing.B) {
	const size = 64 << 20
	zero := make([]byte, 1<<20)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "67108864")
		for range size >> 20 {
			if _, err := w.Write(zero); err != nil {
				return
			}
		}
	}))
	defer up.Close()
	client := &http.Transport{MaxIdleConnsPerHost: 64}
	defer client.CloseIdleConnections()
	server := benchServer(b, up.Listener.Addr().String())
	b.SetBytes(size)
	for b.Loop() {
		fetch(b, client, server.URL+blobPath(someDigest))
	}
}

// BenchmarkManifest is the cost of one small request.
func BenchmarkManifest(b *testing.B) {
	layer := `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + someDigest + `","size":1}`
	manifest := []byte(`{"schemaVersion":2,"config":` + layer + `,"layers":[` + strings.Repeat(layer+",", 7) + layer + `]}`)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", judge.OCIManifest)
		_, _ = w.Write(manifest) // a test server's client is the proxy, which stays
	}))
	defer up.Close()
	client := &http.Transport{MaxIdleConnsPerHost: 64}
	defer client.CloseIdleConnections()
	server := benchServer(b, up.Listener.Addr().String())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			fetch(b, client, server.URL+manifestPath)
		}
	})
}

func benchServer(b *testing.B, upstreamHost string) *httptest.Server {
	b.Helper()
	table := NewTable(nil)
	err := table.Swap(layout.Layout{Generation: 1, Routes: []layout.Route{{
		Name: layout.Fixed(), Upstreams: []upstream.Upstream{{Host: upstreamHost, Scheme: upstream.HTTP, Path: "x"}},
	}}})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(New(table, Config{}))
	b.Cleanup(func() {
		server.Close()
		table.Close()
	})
	b.ReportAllocs()
	return server
}

func fetch(b *testing.B, client *http.Transport, url string) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := client.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%d %v", resp.StatusCode, err)
	}
}
