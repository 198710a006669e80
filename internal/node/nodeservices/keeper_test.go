package nodeservices

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/datapath/front"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/pod"
)

const (
	users        = "HASH-of-a-password"
	manifestFile = "etc/kubernetes/manifests/registry-nodeservices.yaml"
)

// host is the root directory of a host.
type host struct {
	t    *testing.T
	dir  string
	root *durable.Dir
	*Keeper
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	h := &host{t: t, dir: t.TempDir()}
	var err error
	if h.root, err = durable.OpenDir(h.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.root.Close() })
	h.Keeper = New(h.root, "/etc/kubernetes/manifests")
	return h
}

// dying is the same Keeper in a process that is killed.
func (h *host) dying(p *durabletest.Process) *Keeper {
	k := *h.Keeper
	k.host = p.FS(h.root)
	k.give = func(folder string, user int, mode fs.FileMode) error {
		return p.Do("give "+folder, func() error { return h.give(folder, user, mode) })
	}
	return &k
}

// some is a Config without a certificate.
func some() Config {
	return Config{
		Pod:    pod.Store{Image: "registry.example.com/d8/registry:v1", Version: "1", Address: "10.0.0.1", Port: 5001, Path: "/opt/deckhouse/registry"},
		Layout: []byte("layout 1"), Users: []byte(users), Pins: []byte("pins 1"), Stores: []byte("stores 1"), Names: []string{"10.0.0.1"},
	}
}

// apply must not fail.
func (h *host) apply(c Config) Found {
	h.t.Helper()
	f, err := h.Apply(c)
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

func (h *host) look(c Config) Found {
	h.t.Helper()
	f, err := h.Look(c)
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

// signed is the Config with what a controller signs for the key of this host.
func (h *host) signed(c Config) Config {
	h.t.Helper()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	ca, err := pki.NewCA(now, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	text, err := pki.Answer(now, ca, h.apply(c).Request, c.Names)
	if err != nil {
		h.t.Fatal(err)
	}
	c.Certificate = []byte(text)
	return c
}

// tree is every file of the host with mode, owner and content.
func (h *host) tree() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(h.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		user, group := ownerOf(info)
		text := fmt.Sprintf("%s %d:%d ", info.Mode(), user, group)
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text += string(data)
		}
		all[strings.TrimPrefix(name, h.dir+"/")] = text
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// static is the manifest as a kubelet reads it; nil if there is none. Nothing else is there
// for it to read.
func (h *host) static() *corev1.Pod {
	h.t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.dir, "etc/kubernetes/manifests"))
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	var found *corev1.Pod
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(h.dir, "etc/kubernetes/manifests", e.Name()))
		if err != nil || e.Name() != "registry-nodeservices.yaml" {
			h.t.Fatalf("the kubelet reads %s, %v", e.Name(), err)
		}
		found = &corev1.Pod{}
		if err := yaml.UnmarshalStrict(data, found); err != nil {
			h.t.Fatal(err)
		}
	}
	return found
}

// TestAStoreComesAndGoes: key, certificate, files, manifest; and the other way.
func TestAStoreComesAndGoes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if f := h.look(some()); f != (Found{State: Nothing}) {
		t.Errorf("before all: %+v", f)
	}
	f := h.apply(some())
	if f.State != CertificateMissing || f.Request == "" || f.Hash != "" || h.static() != nil {
		t.Fatalf("without a certificate: %+v", f)
	}
	if _, there := h.tree()["etc/kubernetes/registry/layout"]; there {
		t.Error("there are files for a store that cannot serve")
	}
	if again := h.apply(some()); again != f {
		t.Errorf("asked once more: %+v, and before %+v", again, f)
	}
	c := h.signed(some())
	if f := h.look(c); f.State != Differs {
		t.Errorf("before it is written: %+v", f)
	}
	f = h.apply(c)
	static := h.static()
	if f.State != Written || static == nil || f.Hash == "" || f.Hash != static.Annotations["registry.deckhouse.io/config-hash"] || f.Version != "1" {
		t.Fatalf("%+v, %+v", f, static)
	}
	if static.Name != "registry-nodeservices" || static.Namespace != "d8-system" || static.Spec.Containers[0].Image != c.Pod.Image {
		t.Errorf("%+v", static.ObjectMeta)
	}
	for name, want := range map[string]string{
		"etc/kubernetes/registry":        "drwxr-xr-x 0:0 ",
		"etc/kubernetes/registry/layout": "-rw------- 64535:64535 layout 1", "etc/kubernetes/registry/users": "-rw------- 64535:64535 " + users,
		"etc/kubernetes/registry/pins": "-rw------- 64535:64535 pins 1", "etc/kubernetes/registry/stores": "-rw------- 64535:64535 stores 1",
		"etc/kubernetes/registry/tls.crt": "-rw------- 64535:64535 " + string(c.Certificate),
		"opt/deckhouse":                   "drwxr-xr-x 0:0 ", "opt/deckhouse/registry": "drwx------ 64535:64535 ",
	} {
		if got := h.tree()[name]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	seen := &durabletest.FS{FS: h.root}
	h.host = seen
	if again := h.apply(c); again != f || slices.ContainsFunc(seen.Changes, func(c durabletest.Change) bool { return c.Op != durabletest.SyncDir }) {
		t.Errorf("the second time: %+v, %v", again, seen.Changes)
	}
	h.host = h.root
	h.secrets(f)

	kept := filepath.Join(h.dir, "opt/deckhouse/registry/store.json")
	if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing
		if err := h.Remove(); err != nil {
			t.Fatal(err)
		}
		if f := h.look(c); f != (Found{State: Nothing}) {
			t.Errorf("after all: %+v", f)
		}
	}
	if _, there := h.tree()["etc/kubernetes/registry"]; there || h.static() != nil {
		t.Error("something is left")
	}
	if data, err := os.ReadFile(kept); err != nil || string(data) != "kept" {
		t.Errorf("what was kept is gone: %v", err)
	}
}

// secrets fails if key or users are anywhere but in their files.
func (h *host) secrets(f Found) {
	h.t.Helper()
	for name, text := range h.tree() {
		if strings.Contains(text, "PRIVATE KEY") && name != "etc/kubernetes/registry/tls.key" || strings.Contains(text, users) && name != "etc/kubernetes/registry/users" {
			h.t.Errorf("%s holds a secret", name)
		}
	}
	if text := fmt.Sprintf("%+v", f); strings.Contains(text, "PRIVATE") {
		h.t.Error("the report holds the key")
	}
}

// TestAConfigIsNotPrinted: it goes through logs and errors.
func TestAConfigIsNotPrinted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "config", some())
	text := out.String() + fmt.Sprintf("%v %+v %#v %s", some(), some(), some(), some())
	if strings.Contains(text, "HASH") || strings.Contains(text, fmt.Sprintf("%d", []byte(users))) || !strings.Contains(text, "registry:v1") {
		t.Error(text)
	}
}

// TestWhatDiffersIsMended: changes by hand, a lost key, another certificate, other files.
func TestWhatDiffersIsMended(t *testing.T) {
	t.Parallel()
	const folder = "etc/kubernetes/registry/"
	for name, row := range map[string]struct {
		change func(h *host, c *Config) error
		want   State
		pod    bool // it is another pod
	}{
		"a file by hand":    {func(h *host, _ *Config) error { return os.WriteFile(filepath.Join(h.dir, folder, "users"), nil, 0o600) }, Differs, false},
		"a file gone":       {func(h *host, _ *Config) error { return os.Remove(filepath.Join(h.dir, folder, "layout")) }, Differs, false},
		"a mode":            {func(h *host, _ *Config) error { return os.Chmod(filepath.Join(h.dir, folder, "tls.key"), 0o644) }, Differs, false},
		"an owner":          {func(h *host, _ *Config) error { return os.Chown(filepath.Join(h.dir, folder, "tls.key"), 0, 0) }, Differs, false},
		"a group":           {func(h *host, _ *Config) error { return os.Chown(filepath.Join(h.dir, folder, "tls.key"), 64535, 0) }, Differs, false},
		"the data folder":   {func(h *host, _ *Config) error { return os.Chmod(filepath.Join(h.dir, "opt/deckhouse/registry"), 0o755) }, Differs, false},
		"the manifest":      {func(h *host, _ *Config) error { return os.Truncate(filepath.Join(h.dir, manifestFile), 10) }, Differs, false},
		"another layout":    {func(_ *host, c *Config) error { c.Layout = []byte("layout 2"); return nil }, Differs, false},
		"no pins any more":  {func(_ *host, c *Config) error { c.Pins = nil; return nil }, Differs, false},
		"another image":     {func(_ *host, c *Config) error { c.Pod.Image += "2"; return nil }, Differs, true},
		"an etcd":           {func(h *host, _ *Config) error { return os.MkdirAll(filepath.Join(h.dir, "var/lib/etcd"), 0o755) }, Differs, true},
		"a certificate new": {func(h *host, c *Config) error { *c = h.signed(*c); return nil }, Differs, false},
		"the key gone":      {func(h *host, _ *Config) error { return os.Remove(filepath.Join(h.dir, folder, "tls.key")) }, CertificateMissing, false},
		"the key damaged": {func(h *host, _ *Config) error {
			return os.WriteFile(filepath.Join(h.dir, folder, "tls.key"), nil, 0o600)
		}, CertificateMissing, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.signed(some())
			before := h.apply(c)
			if err := row.change(h, &c); err != nil {
				t.Fatal(err)
			}
			if f := h.look(c); f.State != row.want {
				t.Errorf("%+v", f)
			}
			after := h.apply(c)
			if row.want == CertificateMissing {
				if after.State != CertificateMissing || after.Request == "" || after.Request == before.Request || h.static() == nil {
					t.Errorf("%+v", after)
				}
				c = h.signed(c)
				after = h.apply(c)
			}
			if after.State != Written || (after.Hash != before.Hash) != row.pod {
				t.Errorf("%+v, and before %+v", after, before)
			}
			if text := h.static().Spec.Containers[0].Args; slices.Contains(text, "--etcd=") == (name == "an etcd") {
				t.Errorf("%q", text)
			}
		})
	}
}

// TestACertificateOfAnotherKey is none: what is there goes on, and nothing is written beside it.
func TestACertificateOfAnotherKey(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(h.signed(some()))
	before := h.tree()
	c := newHost(t).signed(some())
	c.Layout, c.Pod.Version = []byte("layout 2"), "2"
	if f := h.apply(c); f.State != CertificateMissing || f.Version != "1" || !maps.Equal(h.tree(), before) {
		t.Errorf("%+v, %v", f, h.tree())
	}
}

// TestWrongConfigsWriteNothing: what comes from the API server is checked before anything is
// written or given away.
func TestWrongConfigsWriteNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for name, change := range map[string]func(*Config){
		"no image": func(c *Config) { c.Pod.Image = "" }, "two images": func(c *Config) { c.Pod.Image = "a b" },
		"no port": func(c *Config) { c.Pod.Port = 0 }, "a large port": func(c *Config) { c.Pod.Port = 65536 },
		"a name": func(c *Config) { c.Pod.Address = "node-1" }, "loopback": func(c *Config) { c.Pod.Address = "127.0.0.1" },
		"all addresses": func(c *Config) { c.Pod.Address = "0.0.0.0" }, "the root": func(c *Config) { c.Pod.Path = "/" },
		"a folder of the root": func(c *Config) { c.Pod.Path = "/etc" }, "no path": func(c *Config) { c.Pod.Path = "" },
		"up": func(c *Config) { c.Pod.Path = "/opt/x/../../etc/y" }, "relative": func(c *Config) { c.Pod.Path = "opt/x" },
		"a mount with options": func(c *Config) { c.Pod.Path = "/opt/x:rw" }, "a variable": func(c *Config) { c.Pod.Path = "/opt/$(X)" },
		"no layout": func(c *Config) { c.Layout = nil }, "no users": func(c *Config) { c.Users = nil },
		"much": func(c *Config) { c.Stores = make([]byte, maxFile+1) },
	} {
		c := some()
		change(&c)
		if _, err := h.Apply(c); err == nil || strings.Contains(err.Error(), users) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := h.tree(); len(left) != 1 {
		t.Errorf("%v", left)
	}
}

// TestNames are those of the page: node, loopback, Services.
func TestNames(t *testing.T) {
	t.Parallel()
	want := []string{"registry.d8-system.svc", "registry.d8-system.svc.cluster.local", "127.0.0.1", "10.222.1.1", "10.0.0.1", "fd00::1", "registry-local.d8-system.svc"}
	if got := Names([]string{"10.0.0.1", "fd00::1"}, "cluster.local", "10.222.1.1"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestFilesAreThoseOfTheStore: by any other name it does not read them.
func TestFilesAreThoseOfTheStore(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "datapath", "store", "pins.go"))
	if err != nil || !strings.Contains(string(text), fmt.Sprintf("keyPins = %q", filePins)) {
		t.Errorf("%s is not what the store reads, %v", filePins, err)
	}
	if fileStores != peer.Key || fileCertificate != front.KeyCertificate || fileKey != front.KeyKey || "/"+configDir != pod.ConfigDir {
		t.Error("names differ")
	}
}

// owner gives a file away.
func owner(name string, user int) error { return syscall.Chown(name, user, user) }
