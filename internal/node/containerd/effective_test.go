package containerd_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// TestEffectiveIsWhereContainerdLooks compares what Discover says with where a
// real containerd of each version was seen looking, for each way to set the
// directory. In what is written @ stands for the test's folder.
func TestEffectiveIsWhereContainerdLooks(t *testing.T) {
	t.Parallel()
	const (
		one  = "config_path = '@/a'\n"
		list = "config_path = '@/a:@/b'\n"
	)
	both, first, none := map[string]bool{"a": true, "b": true}, map[string]bool{"a": true, "b": false}, map[string]bool{"a": false, "b": false}
	for _, test := range []struct {
		name, images, registry string
		only                   containerdtest.Version // all of them when empty
		pull                   containerd.PullPath    // what 2.x is to use
		looks, looks2          map[string]bool        // by folder, whether 1.x and 2.x do
		needs2                 string                 // what config_path must become on 2.x
	}{
		{name: "one", registry: one, pull: containerd.PullTransfer, looks: first, looks2: first},
		{name: "list", registry: list, pull: containerd.PullTransfer, looks: both, looks2: none, needs2: "@/a"},
		{name: "one, local pull", only: containerdtest.V2, images: "use_local_image_pull = true", registry: one, pull: containerd.PullLocal, looks2: first},
		{name: "list, local pull", only: containerdtest.V2, images: "use_local_image_pull = true", registry: list, pull: containerd.PullLocal, looks2: both},
		{name: "list, more downloads at once", images: "max_concurrent_downloads = 4", registry: list, pull: containerd.PullLocal, looks: both, looks2: both},
		{name: "list, snapshot annotations", images: "disable_snapshot_annotations = false", registry: list, pull: containerd.PullLocal, looks: both, looks2: both},
		{name: "list, layers thrown away", images: "discard_unpacked_layers = true", registry: list, pull: containerd.PullLocal, looks: both, looks2: both},
		{name: "nothing", pull: containerd.PullTransfer, looks: none, looks2: none, needs2: containerd.DefaultSource},
	} {
		for _, version := range containerdtest.Versions() {
			if test.only != "" && version != test.only {
				continue
			}
			t.Run(test.name+"/"+string(version), func(t *testing.T) {
				t.Parallel()
				c := containerdtest.NewVersion(t, version)
				c.ConfigureImages(t, test.images, "["+c.RegistryTable()+"]\n"+test.registry)
				client := c.Start(t)
				pull, looks, needs := test.pull, test.looks2, test.needs2
				if version.One() {
					pull, looks, needs = containerd.PullLocal, test.looks, ""
					if test.registry == "" {
						needs = containerd.DefaultSource
					}
				}
				effective := ""
				if needs == "" {
					effective = filepath.Join(c.Dir, "a")
				}
				needs = strings.ReplaceAll(needs, "@", c.Dir)
				facts := discover(t, client, c)
				if facts.Effective != effective || facts.NeedsPath != needs || facts.PullPath != pull || facts.Preflight != containerd.Ready {
					t.Errorf("%q, needs %q, %s, %s (%s); want %q, %q, %s", facts.Effective, facts.NeedsPath, facts.PullPath,
						facts.Preflight, facts.Message, effective, needs, pull)
				}
				for folder, want := range looks {
					if got := looksIn(t, c, client, folder); got != want {
						t.Errorf("containerd looks in %s: %t, want %t", folder, got, want)
					}
				}
			})
		}
	}
}

// TestNeedsPathIsEnough sets what Discover asks for and sees containerd look
// there after its restart, and not before.
func TestNeedsPathIsEnough(t *testing.T) {
	t.Parallel()
	for _, version := range containerdtest.Versions() {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			c := containerdtest.NewVersion(t, version)
			c.Configure(t, "")
			client := c.Start(t)
			source := filepath.Join(c.Dir, "registry.d")
			options := containerd.Options{Socket: c.Socket, Source: source}
			facts, err := containerd.Discover(t.Context(), client, options)
			if err != nil || facts.NeedsPath != source || facts.PathFile != c.ConfigFile || facts.ChangedSince != "" {
				t.Fatalf("%+v, %v", facts, err)
			}
			if looksIn(t, c, client, "registry.d") {
				t.Error("containerd looks where it was not told to")
			}
			<-time.After(1100 * time.Millisecond) // a file's time and a process's are compared by the second
			c.Configure(t, "["+c.RegistryTable()+"]\nconfig_path = '"+facts.NeedsPath+"'\n")
			if facts = discover(t, client, c); facts.Effective != source || facts.NeedsPath != "" || facts.ChangedSince != c.ConfigFile {
				t.Errorf("before the restart: %+v", facts)
			}
			if looksIn(t, c, client, "registry.d") {
				t.Error("containerd looks there before its restart")
			}
			c.Restart(t)
			if facts = discover(t, client, c); facts.ChangedSince != "" {
				t.Errorf("after the restart: %+v", facts)
			}
			if !looksIn(t, c, client, "registry.d") {
				t.Error("containerd does not look there after its restart")
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
	host := loopback.Address(t) // nobody answers there
	// 1.6 overlooks a file without [host].
	c.Write(t, folder+"/"+host+"/hosts.toml", "[host]\n[host.\""+server.URL+"\"]\n")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, _ = client.PullImage(ctx, host+"/app:v1") // it fails in any case; what counts is whom it asks
	return came.Load()
}
