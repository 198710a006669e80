package cache

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

// However many ask, each byte is fetched once, and each manifest.
func TestEachByteIsFetchedOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ clients, size int }{"8 clients": {8, 8 << 20}, "64 clients": {64, 4 << 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, img := one(t, tc.size)
			s := start(t, Config{}, r.Upstream("team"))
			digest, data := content(t, img, 0)
			together(tc.clients, func(int) {
				if m := s.get(manifestPath("v1")); m.status != http.StatusOK || m.header.Get("Docker-Content-Digest") != digestOf(t, img) {
					t.Errorf("%d %.200q", m.status, m.body)
				}
				s.wantBlob(s.get(blobPath(digest)), data)
			})
			wantOnce(t, r, digest, tc.size)
			if n := r.Count(func(q testregistry.Request) bool { return served(q) && strings.Contains(q.Path, "/manifests/") }); n != 1 {
				t.Errorf("%d requests for the manifest", n)
			}
			s.wantBlob(s.get(blobPath(digest)), data)
			wantOnce(t, r, digest, tc.size)
		})
	}
}

// served leaves out what was only told to get a token.
func served(q testregistry.Request) bool { return q.Status != http.StatusUnauthorized }

func wantOnce(t *testing.T, r *testregistry.Registry, digest string, size int) {
	t.Helper()
	n := r.Count(func(q testregistry.Request) bool { return served(q) && q.Digest == digest })
	if got := r.Bytes(digest); got != int64(size) || n > 4 {
		t.Errorf("%d bytes in %d requests, want %d once", got, n, size)
	}
}

// containerd since 2.1 asks for parts of one layer at a time.
func TestPartsAreFetchedOnce(t *testing.T) {
	t.Parallel()
	r, img := one(t, 8<<20)
	s := start(t, Config{}, r.Upstream("team"))
	digest, data := content(t, img, 1)
	const parts, clients = 4, 8
	together(parts*clients, func(i int) {
		from := i % parts * len(data) / parts
		p := s.get(blobPath(digest), "Range", fmt.Sprintf("bytes=%d-", from))
		if p.status != http.StatusPartialContent || !bytes.Equal(p.body, data[from:]) {
			t.Errorf("%d, %d bytes from %d, %v", p.status, len(p.body), from, p.err)
		}
	})
	// An answer that others bring the rest of is ended: what its connection holds then was
	// sent for nothing. Of what we read nothing is twice.
	if got := s.metric("registry_store_upstream_bytes_total", ""); got != float64(len(data)) {
		t.Errorf("%f bytes were read of %d", got, len(data))
	}
	if n := r.Count(func(q testregistry.Request) bool { return served(q) && q.Digest == digest }); n > 4 {
		t.Errorf("%d requests", n)
	}
}

// The negative control: without joining each client costs a fetch.
func TestAloneEachFetches(t *testing.T) {
	t.Parallel()
	r, _ := one(t, 1000)
	r.SetFaults(testregistry.Faults{Latency: 200e6})
	s := start(t, Config{Promises: Promises{alone: true}}, r.Upstream("team"))
	together(8, func(int) { s.get(manifestPath("v1")) })
	if n := r.Count(func(q testregistry.Request) bool { return strings.Contains(q.Path, "/manifests/") }); n < 2 {
		t.Errorf("%d requests for the manifest", n)
	}
}
