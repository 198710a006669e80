package cache

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/proxy"
)

// BenchmarkManifestByTag is beside the same data path without a cache.
func BenchmarkManifestByTag(b *testing.B) {
	r, _ := one(b, 1000)
	s := start(b, Config{}, r.Upstream("team"))
	plain := httptest.NewServer(proxy.New(s.table, proxy.Config{}))
	defer plain.Close()
	for name, url := range map[string]string{"cache": s.server.URL, "none": plain.URL} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if m := ask(b, s.client, http.MethodGet, url+manifestPath("v1")); m.status != http.StatusOK {
					b.Fatal(m.status)
				}
			}
		})
	}
}

// BenchmarkLayer is one of 64 MiB, warm, and without a cache.
func BenchmarkLayer(b *testing.B) {
	const size = 64 << 20
	r, img := one(b, size)
	s := start(b, Config{}, r.Upstream("team"))
	plain := httptest.NewServer(proxy.New(s.table, proxy.Config{}))
	defer plain.Close()
	digest, data := content(b, img, 0)
	s.wantBlob(s.get(blobPath(digest)), data)
	for name, url := range map[string]string{"cache": s.server.URL, "none": plain.URL} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if l := ask(b, s.client, http.MethodGet, url+blobPath(digest)); len(l.body) != size {
					b.Fatal(l.status)
				}
			}
		})
	}
}
