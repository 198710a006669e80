package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// BenchmarkBlob streams one layer over loopback without TLS, so that it measures the
// path and not the store. With two upstreams it is hashed on its way: what that costs is
// the difference in CPU time, which is of client, path and upstream together.
func BenchmarkBlob(b *testing.B) {
	const size = 64 << 20
	zero := make([]byte, 1<<20)
	sum := sha256.New()
	for range size >> 20 {
		_, _ = sum.Write(zero)
	}
	path := blobPath("sha256:" + hex.EncodeToString(sum.Sum(nil)))
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
	for name, paths := range map[string][]string{"one upstream": {"x"}, "two upstreams": {"x", "y"}} {
		b.Run(name, func(b *testing.B) {
			server := benchServer(b, up.Listener.Addr().String(), paths...)
			b.SetBytes(size)
			before := cpuTime(b)
			for b.Loop() {
				download(b, client, server.URL+path)
			}
			b.ReportMetric((cpuTime(b)-before).Seconds()/(float64(b.N)*size/(1<<30)), "cpu-s/GiB")
		})
	}
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
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
	server := benchServer(b, up.Listener.Addr().String(), "x")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			download(b, client, server.URL+manifestPath)
		}
	})
}

func benchServer(b *testing.B, upstreamHost string, paths ...string) *httptest.Server {
	b.Helper()
	table := routes.NewTable(nil)
	var upstreams []upstream.Upstream
	for _, path := range paths {
		upstreams = append(upstreams, upstream.Upstream{Host: upstreamHost, Scheme: upstream.HTTP, Path: path})
	}
	err := table.Swap(layout.Layout{Generation: 1, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}}})
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

func download(b *testing.B, client *http.Transport, url string) {
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
