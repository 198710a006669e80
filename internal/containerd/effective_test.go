package containerd_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/containerd"
	"github.com/d8-registry/registry/internal/containerd/containerdtest"
)

// TestEffectiveIsWhereContainerdLooks compares what Discover says with where a
// real containerd was seen looking, for each way to set the directory.
func TestEffectiveIsWhereContainerdLooks(t *testing.T) {
	t.Parallel()
	const registry = "[plugins.'io.containerd.cri.v1.images'.registry]\n"
	const list = registry + "config_path = '@/a:@/b'\n"
	for _, test := range []struct {
		name, images, config string
		effective            string          // as Discover should say; empty: nowhere
		looks                map[string]bool // by folder, whether containerd does
	}{
		{name: "one", config: registry + "config_path = '@/a'\n", effective: "@/a", looks: map[string]bool{"a": true, "b": false}},
		{name: "list", config: list, looks: map[string]bool{"a": false, "b": false}},
		{name: "list, local pull", images: "use_local_image_pull = true", config: list, effective: "@/a", looks: map[string]bool{"a": true, "b": true}},
		{name: "list, falls back to local pull", images: "max_concurrent_downloads = 4", config: list, effective: "@/a", looks: map[string]bool{"a": true}},
		{name: "list, snapshot annotations", images: "disable_snapshot_annotations = false", config: list, effective: "@/a", looks: map[string]bool{"a": true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := containerdtest.New(t)
			c.ConfigureImages(t, test.images, test.config)
			client := c.Start(t)
			facts := discover(t, client, c)
			want := ""
			if test.effective != "" {
				want = filepath.Join(c.Dir, test.effective[1:])
			}
			if facts.Effective != want || facts.Preflight != containerd.Ready || (want == "") != (facts.NeedsPath != "") {
				t.Errorf("%q, %s (%s), needs %q; want %q", facts.Effective, facts.Preflight, facts.Message, facts.NeedsPath, want)
			}
			for folder, want := range test.looks {
				if got := looksIn(t, c, client, folder); got != want {
					t.Errorf("containerd looks in %s: %t, want %t", folder, got, want)
				}
			}
		})
	}
}

// looksIn reports whether a pull comes to us when the folder says so.
func looksIn(t *testing.T, c *containerdtest.Containerd, client *containerd.Client, folder string) bool {
	t.Helper()
	var came atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came.Store(true)
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // its address is nobody else's, and nobody answers there
	if err != nil {
		t.Fatal(err)
	}
	host := silent.Addr().String()
	if err := silent.Close(); err != nil {
		t.Fatal(err)
	}
	c.Write(t, folder+"/"+host+"/hosts.toml", "server = \""+server.URL+"\"\n")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, _ = client.PullImage(ctx, host+"/app:v1") // it fails in any case; what counts is whom it asks
	return came.Load()
}
