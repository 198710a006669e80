package containerd_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// TestWithoutCRI starts containerds whose CRI plugin does not load: containerd
// itself goes on, and only a look at its configuration says why.
func TestWithoutCRI(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, what, key string
		preflight       containerd.Preflight
		config          func(c *containerdtest.Containerd) string
	}{
		{"both", "config_path is set as well", ".registry.mirrors", containerd.Custom, func(c *containerdtest.Containerd) string {
			return c.Base() + "[" + c.RegistryTable() + "]\nconfig_path = '@/certs.d'\n[" + c.RegistryTable() + ".mirrors.'x.example.com']\nendpoint = ['https://user:PASSWORD@m']\n"
		}},
		{"disabled", "take it out and restart containerd", "disabled_plugins", containerd.Unsupported, func(c *containerdtest.Containerd) string {
			plugin := "'io.containerd.grpc.v1.cri'"
			if c.Version == containerdtest.V2 {
				plugin += ", 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime'"
			}
			return strings.Replace(c.Base(), "disabled_plugins = [", "disabled_plugins = ["+plugin+", ", 1)
		}},
	} {
		for _, version := range containerdtest.Versions() {
			t.Run(test.name+"/"+string(version), func(t *testing.T) {
				t.Parallel()
				c := containerdtest.NewVersion(t, version)
				c.Main(t, test.config(c))
				if err := c.RestartService(t.Context()); err != nil {
					t.Fatal(err)
				}
				facts := discover(t, dial(t, c.Socket), c)
				if facts.Preflight != test.preflight || facts.Instance == "" || facts.Runtime != "containerd" {
					t.Errorf("%+v", facts)
				}
				for _, part := range []string{"without its CRI plugin", test.what, c.ConfigFile + ":"} {
					if !strings.Contains(facts.Message, part) {
						t.Errorf("%q has no %q", facts.Message, part)
					}
				}
				if strings.Contains(facts.Message, "PASSWORD") {
					t.Errorf("a password is shown: %s", facts.Message)
				}
				named := func(p containerd.Problem) bool {
					return strings.HasSuffix(p.Key, test.key) && p.File == c.ConfigFile && p.Line > 0
				}
				if !slices.ContainsFunc(facts.Problems, named) {
					t.Errorf("%+v", facts.Problems)
				}
				// The repair is seen before the restart, which it still needs.
				c.Configure(t, "["+c.RegistryTable()+"]\nconfig_path = '@/certs.d'\n")
				if facts = discover(t, dial(t, c.Socket), c); facts.Preflight != containerd.Unsupported || !strings.Contains(facts.Message, "restart containerd") {
					t.Errorf("repaired: %s, %s", facts.Preflight, facts.Message)
				}
			})
		}
	}
}

func dial(t *testing.T, socket string) *containerd.Client {
	t.Helper()
	client, err := containerd.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// stranger is another runtime's CRI.
type stranger struct {
	cri.UnimplementedRuntimeServiceServer
	name, version string
}

func (s stranger) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeName: s.name, RuntimeVersion: s.version}, nil
}

func TestOtherRuntimes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, version, want string }{
		{"cri-o", "1.30.3", "the container runtime is cri-o 1.30.3, not containerd"},
		{"docker", "27.1.0", "the container runtime is docker 27.1.0, not containerd"},
		{"containerd", "1.5.18", "containerd 1.5.18 is too old"},
	} {
		socket := filepath.Join(t.TempDir(), "s")
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		cri.RegisterRuntimeServiceServer(server, stranger{name: test.name, version: test.version})
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
		facts, err := containerd.Discover(t.Context(), dial(t, socket), containerd.Options{Socket: socket})
		if err != nil || facts.Preflight != containerd.Unsupported || !strings.Contains(facts.Message, test.want) || facts.HostsDir != "" {
			t.Errorf("%s: %+v, %v", test.name, facts, err)
		}
	}
}

// TestNoContainerd: nobody at the socket is no finding, it may be a restart;
// another runtime's socket in its place is.
func TestNoContainerd(t *testing.T) {
	t.Parallel()
	run := t.TempDir()
	socket := filepath.Join(run, "containerd", "containerd.sock")
	look := func() (containerd.Facts, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		return containerd.Discover(ctx, dial(t, socket), containerd.Options{Socket: socket})
	}
	if facts, err := look(); err == nil {
		t.Errorf("%+v", facts)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(run, "crio"), 0o755), os.WriteFile(filepath.Join(run, "crio/crio.sock"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if facts, err := look(); err != nil || facts.Preflight != containerd.Unsupported || !strings.Contains(facts.Message, "CRI-O") {
		t.Errorf("%+v, %v", facts, err)
	}
}

// TestReadOnly is a system whose configuration is part of its image, as Talos'
// and Bottlerocket's is.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, config, frozen string
		preflight            containerd.Preflight
		message              string
	}{
		{"directory", "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n", "/etc/containerd/certs.d", containerd.Unsupported,
			"/etc/containerd/certs.d cannot be written: read-only file system"},
		{"main file", "", "/etc/containerd", containerd.Unsupported,
			"/etc/containerd/config.toml cannot be edited (read-only file system); set config_path"},
		{"main file that need not change", "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/var/certs.d'\n", "/etc/containerd", containerd.Ready, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(t, "/etc/containerd/config.toml", []byte("version = 3\n"+test.config))
			n.freeze(t, test.frozen)
			facts := containerd.Look(t.Context(), n.process(t, "2.x", "/etc/containerd/config.toml"), "2.4.2", containerd.Options{Source: "/var/registry.d"})
			if facts.Preflight != test.preflight || !strings.Contains(facts.Message, test.message) {
				t.Errorf("%s: %s", facts.Preflight, facts.Message)
			}
		})
	}
}

// freeze puts a read-only file system with the same files over a directory.
func (n node) freeze(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(n.path(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	// Mounts are made by whoever is in the namespace.
	n.run(t, "mount --bind "+dir+" "+dir+" && mount -o remount,bind,ro "+dir)
	if err := unix.Access(n.path(dir), unix.W_OK); !errors.Is(err, unix.EROFS) {
		t.Fatalf("%s is not frozen: %v", dir, err)
	}
}

// TestConfigDirs are what an agent has to watch: a file that comes or goes in
// any of them may be what a waiting switch is waiting for.
func TestConfigDirs(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(t, "/etc/containerd/config.toml", []byte("version = 2\nimports = ['extra/*.toml', '/var/one/a.toml', '/none/*.toml']\n"))
	for _, name := range []string{"/etc/containerd/extra/x.toml", "/var/one/a.toml", "/etc/containerd/conf.d/x", "/etc/containerd/conf2.d/x", "/etc/containerd/other/x"} {
		n.write(t, name, nil)
	}
	facts := containerd.Look(t.Context(), n.process(t, "1.7", "/etc/containerd/config.toml"), "1.7.35", containerd.Options{})
	want := []string{"/etc/containerd", "/etc/containerd/conf.d", "/etc/containerd/conf2.d", "/etc/containerd/extra", "/var/one"}
	for i, dir := range want {
		want[i] = n.path(dir)
	}
	if !slices.Equal(facts.ConfigDirs, want) {
		t.Errorf("%q, want %q", facts.ConfigDirs, want)
	}
}

// TestDefaultConfiguration is what kubeadm's documentation tells people to do:
// the binary's own default, with one setting turned.
func TestDefaultConfiguration(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, version := range containerdtest.Versions() {
		p := n.process(t, string(version), "/etc/containerd/config.toml")
		own, err := p.OwnVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text, err := p.Run(t.Context(), "config", "default")
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.ReplaceAll(string(text), "SystemdCgroup = false", "SystemdCgroup = true")
		if changed == string(text) {
			t.Errorf("%s: the default has another form", version)
		}
		n.write(t, p.Config, []byte(changed))
		facts := containerd.Look(t.Context(), p, own, containerd.Options{})
		if facts.Preflight != containerd.Ready || facts.NeedsPath != containerd.DefaultSource || len(facts.Problems)+len(facts.Warnings) > 0 ||
			!strings.Contains(facts.SandboxImage, "pause") || facts.ConfigVersion < 2 || facts.PathFile != p.Config {
			t.Errorf("%s: %+v", version, facts)
		}
	}
}
