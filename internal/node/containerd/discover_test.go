package containerd_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" { // its workers are children that nobody may come between
		os.Exit(m.Run())
	}
	os.Exit(containerdtest.Isolate(m.Run))
}

func discover(t *testing.T, client *containerd.Client, c *containerdtest.Containerd) containerd.Facts {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	facts, err := containerd.Discover(ctx, client, containerd.Options{Socket: c.Socket})
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// TestPreflight changes the configuration below a running containerd, as users
// do: what counts is what it would be after a restart. PASSWORD stands for
// what must never be printed.
func TestPreflight(t *testing.T) {
	t.Parallel()
	c := containerdtest.New(t)
	client := c.Start(t)
	readOnly := filepath.Join(c.Dir, "ro")
	if err := errors.Join(os.Mkdir(readOnly, 0o755), unix.Mount("tmpfs", readOnly, "tmpfs", unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(readOnly, 0) }()
	const registry = "[plugins.'io.containerd.cri.v1.images'.registry]\n"
	const v1mirror = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"a.example.com\"]\n  endpoint = [\"https://m\"]\n"
	for _, test := range []struct {
		name, config string
		files        map[string]string
		effective    string
		needs        string
		preflight    containerd.Preflight
		message      []string
	}{
		{name: "config_path", config: registry + "config_path = '@/certs.d'\n", effective: "@/certs.d", preflight: containerd.Ready},
		{name: "a list", config: registry + "config_path = '@/a:@/b'\n", preflight: containerd.Ready, needs: "@/a"},
		{name: "stock", preflight: containerd.Ready, needs: containerd.DefaultSource},
		{name: "migrated", config: "imports = ['@/d/*.toml']\n", preflight: containerd.Ready, effective: "@/old",
			files: map[string]string{"d/a.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = '@/old'\n"}},
		{name: "mirrors", config: registry + "[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'x']\nendpoint = ['y']\n",
			preflight: containerd.Custom, message: []string{"config.toml", "registry.mirrors"}},
		{name: "both", config: registry + "config_path = '@/certs.d'\n[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'x']\nendpoint = ['y']\n",
			effective: "@/certs.d", preflight: containerd.Custom, message: []string{"registry.mirrors"}},
		{name: "a drop-in", config: "imports = ['d/*.toml']\n", files: map[string]string{"d/user.toml": v1mirror},
			preflight: containerd.Custom, message: []string{"/d/user.toml:2: plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors is in the format", "/etc/containerd/registry.d"}},
		{name: "imported by an import", config: "imports = ['@/d/*.toml']\n",
			files:     map[string]string{"d/a.toml": "imports = ['more/*.toml']\n", "d/more/b.toml": v1mirror},
			preflight: containerd.Custom, message: []string{"/d/more/b.toml"}},
		{name: "passwords", config: registry + "[plugins.'io.containerd.cri.v1.images'.registry.configs.'x'.auth]\npassword = 'PASSWORD'\n",
			effective: "/etc/containerd/certs.d", preflight: containerd.Custom, message: []string{"registry.configs"}},
		{name: "not TOML", config: "imports = ['@/d/*.toml']\n", files: map[string]string{"d/bad.toml": "x = 1\npassword = \"PASSWORD\n"},
			preflight: containerd.Custom, message: []string{"/d/bad.toml:2 is not valid TOML (column"}},
		{name: "not writable", config: registry + "config_path = '@/ro/none'\n", preflight: containerd.Unsupported,
			effective: "@/ro/none", message: []string{"/ro/none cannot be written"}},
		{name: "a file in the way", config: registry + "config_path = '@/config.toml/x'\n", preflight: containerd.Unsupported,
			effective: "@/config.toml/x", message: []string{"cannot be written"}},
		{name: "relative", config: registry + "config_path = 'certs.d'\n", preflight: containerd.Unsupported,
			effective: "certs.d", message: []string{"not absolute"}},
	} {
		t.Run(test.name, func(t *testing.T) { // one after the other: one configuration file
			if err := os.RemoveAll(filepath.Join(c.Dir, "d")); err != nil {
				t.Fatal(err)
			}
			for name, text := range test.files {
				c.Write(t, name, text)
			}
			main, imports := test.config, ""
			if strings.HasPrefix(main, "imports") {
				imports, main = main, ""
			}
			c.Configure(t, main)
			if imports != "" { // a top-level key cannot follow a table
				text, err := os.ReadFile(c.ConfigFile)
				if err != nil {
					t.Fatal(err)
				}
				c.Write(t, "config.toml", imports+string(text))
			}
			facts := discover(t, client, c)
			if want := strings.ReplaceAll(test.effective, "@", c.Dir); facts.Effective != want {
				t.Errorf("effective %q, want %q", facts.Effective, want)
			}
			if want := strings.ReplaceAll(test.needs, "@", c.Dir); facts.NeedsPath != want && facts.Preflight == containerd.Ready || (want == "") != (facts.NeedsPathReason == "") && facts.Effective != "" {
				t.Errorf("needs %q (%s), want %q", facts.NeedsPath, facts.NeedsPathReason, want)
			}
			if facts.Preflight != test.preflight {
				t.Errorf("preflight %q, want %q", facts.Preflight, test.preflight)
			}
			if (facts.Message == "") != (test.preflight == containerd.Ready) || strings.Contains(facts.Message, "PASSWORD") {
				t.Errorf("message %q", facts.Message)
			}
			for _, part := range test.message {
				if !strings.Contains(facts.Message, part) {
					t.Errorf("message %q has no %q", facts.Message, part)
				}
			}
		})
	}
	if left, err := os.ReadDir(filepath.Join(c.Dir, "certs.d")); err == nil {
		t.Errorf("preflight wrote %v", left)
	}
}

func TestDiscoverNamesTheRun(t *testing.T) {
	t.Parallel()
	c := containerdtest.New(t)
	client := c.Start(t)
	lost := make(chan struct{}, 10)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		client.Restarts(ctx, func() { lost <- struct{}{} })
	}()
	before := discover(t, client, c)
	if !strings.HasPrefix(before.Version, "v2.") || before.Runtime != "containerd" {
		t.Errorf("%s %s", before.Runtime, before.Version)
	}
	if p, err := containerd.Running(t.Context(), c.Socket); err != nil || p.Name != "containerd" || p.Config != c.ConfigFile || p.PID != before.PID || p.Binary != before.Binary {
		t.Errorf("%+v, %v; facts %+v", p, err, before)
	}
	if again := discover(t, client, c); !reflect.DeepEqual(again, before) {
		t.Errorf("%+v, then %+v", before, again)
	}
	c.Stop()
	<-lost
	c.Start(t)
	if after := discover(t, client, c); after.Instance == before.Instance {
		t.Error("a restart went unnoticed")
	}
	cancel()
	<-done
}

func TestDiscoverOverride(t *testing.T) {
	t.Parallel()
	c := containerdtest.New(t)
	client := c.Start(t)
	facts, err := containerd.Discover(t.Context(), client, containerd.Options{Socket: c.Socket, Effective: c.Dir + "/mine"})
	if err != nil || facts.Effective != c.Dir+"/mine" || facts.Preflight != containerd.Ready {
		t.Errorf("%+v, %v", facts, err)
	}
	if _, err := os.Stat(filepath.Dir(facts.HostsDir)); err != nil {
		t.Errorf("folder %s: %v", facts.HostsDir, err)
	}
}
