package containerd

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLocate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"": nil,
		"version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n config_path = \"/a:/b\" # comment\n": {
			`4 plugins."io.containerd.grpc.v1.cri".registry.config_path /a:/b`},
		"[plugins]\n[plugins.cri]\nregistry.mirrors.\"a.b\".endpoint = []\nregistry.mirrors.\"c\".endpoint = []": {"3 plugins.cri.registry.mirrors "},
		"plugins = {cri = {registry = {\nauths = {x = {}}}}}":                                                    {"2 plugins.cri.registry.auths "},
		"[plugins.'io.containerd.cri.v1.images'.registry.configs.\"x\".auth]\r\npassword = 'PASSWORD'\r\n":       {`1 plugins."io.containerd.cri.v1.images".registry.configs `},
		"[plugins.\"\\u0063ri\".registry]\nconfig_path = '''/a'''\n":                                             {"2 plugins.cri.registry.config_path /a"},
		"[plugins.cri.registry]\n[plugins.cri.registry.mirrors]\n[plugins.cri.registry.configs]\n":               nil,
		"[plugins.cri.registry]\nmirrors = {}\n":                                                                 nil,
		"[[plugins.cri.registry.mirrors.x]]\n":                                                                   {"1 plugins.cri.registry.mirrors "},
		"[plugins.other.registry.mirrors.x]\n[registry.mirrors.x]\n":                                             nil,
		"[plugins.cri.registry]\nconfig_path = 5\n":                                                              {"2 plugins.cri.registry.config_path "},
		"[plugins.cri]\nregistry = { config_path = \"/x\" }\n[plugins.cri.cni]\n":                                {"2 plugins.cri.registry.config_path /x"},
	} {
		var got []string
		for _, m := range findSettings([]byte(text)).mentions {
			got = append(got, strings.Join([]string{string(rune('0' + m.line)), m.name(), m.value}, " "))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	o := findSettings([]byte("\ndisabled_plugins = ['cri']\n[plugins.cri.cni]\n[plugins.cri]\n"))
	if o.disabled != 2 || !reflect.DeepEqual(o.plugins, map[string]int{"cri": 3}) {
		t.Errorf("%+v", o)
	}
}

// FuzzFile is the promise that whatever a user has on their node, we neither
// break nor tell others what is in it.
func FuzzFile(f *testing.F) {
	const secret = "hunter2"
	for _, seed := range []string{
		"version = 2\nimports = ['a']\n[plugins.cri.registry]\nconfig_path = 'hunter2'\n",
		"[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"r\".auth]\npassword = \"hunter2\n",
		"plugins = {cri = {registry = {mirrors = {hunter2 = {}}}}}", "version = \"hunter2\"", "imports = [1, 'hunter2']", "[a]\n[a]\nx='hunter2'",
		"[[plugins]]\n", "plugins = [{cri = 1}]", "\xef\xbb\xbfversion = 3\r\n", "[plugins.\"\\u0063ri\".registry]\nauths.x.y = 1", "a.b.c = { d = [ { e = 1 } ] }", "x = '''\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file := configFile{path: "/etc/containerd/config.toml", loaded: true}
		file.parse(data)
		lines := strings.Count(string(data), "\n") + 1
		if file.problem != nil {
			if s := file.problem.String(); strings.Contains(s, secret) || file.problem.Line > lines || file.problem.Line < 0 {
				t.Errorf("%q", s)
			}
			return
		}
		for _, m := range file.outline.mentions {
			if m.line < 1 || m.line > lines || strings.Contains(m.name(), secret) {
				t.Errorf("%d of %d: %s", m.line, lines, m.name())
			}
		}
		for _, line := range file.outline.plugins {
			if line < 1 || line > lines {
				t.Errorf("a plugin in line %d of %d", line, lines)
			}
		}
	})
}

// FuzzDump is the same for what containerd's binary says.
func FuzzDump(f *testing.F) {
	f.Add("[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path='/a:/b'", "2.4.2")
	f.Add("[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.x]\npassword = 'hunter2", "1.6.20~ds1")
	f.Fuzz(func(t *testing.T, dump, version string) {
		s, err := understand([]byte(dump), version)
		if err != nil {
			if strings.Contains(err.Error(), "hunter2") {
				t.Error(err)
			}
			return
		}
		if len(s.Looks) == 0 != (s.Effective == "" && len(s.Looks) == 0) || len(s.Looks) > 1 && s.PullPath == PullTransfer {
			t.Errorf("%+v", s)
		}
	})
}

func TestUnderstandByVersion(t *testing.T) {
	t.Parallel()
	const images = "[plugins.'io.containerd.cri.v1.images']\n"
	const list = images + "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/a:/b'\n"
	for _, test := range []struct {
		version, dump string
		pull          PullPath
		looks         []string
	}{
		{"v2.0.5", images, PullLocal, nil}, // the stock list is there since 2.2
		{"v2.0.5", list, PullLocal, []string{"/a", "/b"}},
		{"v2.1.4", images, PullTransfer, nil},
		{"v2.1.4", images + "use_local_image_pull = true\n", PullLocal, nil},
		{"v2.1.4", list, PullTransfer, nil},
		{"v2.2.7", images, PullTransfer, nil},
		{"v2.2.7", images + "use_local_image_pull = true\n", PullLocal, []string{"/etc/containerd/certs.d", "/etc/docker/certs.d"}},
		{"v2.4.2", list + "[plugins.'io.containerd.cri.v1.images'.registry.mirrors.x]\n", PullLocal, []string{"/a", "/b"}},
		{"1.7.35", list, PullLocal, nil}, // not its name
	} {
		s, err := understand([]byte(test.dump), test.version)
		if err != nil || s.PullPath != test.pull || !reflect.DeepEqual(s.Looks, test.looks) && len(s.Looks)+len(test.looks) > 0 {
			t.Errorf("%s %q: %s %v, %v", test.version, test.dump, s.PullPath, s.Looks, err)
		}
	}
}

func TestReadWithin(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, dir := range []string{"etc", "data"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "data/real"), []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"etc/absolute": "/data/real", "etc/relative": "../data/real", "etc/up": "../../../../data/real", "etc/loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "etc/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/data/real", "/etc/absolute", "/etc/relative", "/etc/up"} {
		if got, err := readWithin(root, name); err != nil || string(got) != "here" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := readWithin(root, "/etc/pipe")
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a pipe was read")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a pipe holds the agent up")
	}
	for name, text := range map[string]string{"/etc/loop": "too many levels", "/etc": "not a regular file", "/none": "no such file"} {
		_, err := readWithin(root, name)
		if err == nil || !strings.Contains(reason(err), text) || strings.Contains(reason(err), root) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTreeEnds is a configuration that imports itself, and one that imports
// everything.
func TestTreeEnds(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.toml"), []byte("imports = ['*.toml', 'a.toml', '/b.toml', '[', 'conf.d/*']"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "b.toml"), []byte("imports = ['a.toml']"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := readTree(root, "/a.toml", "/", "2.4.2")
	var paths []string
	for _, f := range tree.files {
		if !f.missing {
			paths = append(paths, f.path)
		}
	}
	if !reflect.DeepEqual(paths, []string{"/a.toml", "/b.toml"}) || !tree.importMissing() {
		t.Errorf("%v, %+v", paths, tree)
	}
	if err := os.Mkdir(filepath.Join(root, "conf2.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, want := tree.directories(), []string{root, filepath.Join(root, "conf2.d")}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestRelativePatterns(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"1.6.20~ds1": "/run/d/*", "1.6.28": "/run/d/*", "1.6.29": "/etc/d/*", "1.7.0": "/run/d/*", "v1.7.15": "/run/d/*", "v1.7.16": "/etc/d/*", "2.0.0": "/etc/d/*",
	} {
		tr := tree{cwd: "/run", version: version}
		if got := tr.absolute("/etc/config.toml", "d/*"); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
		if got := tr.absolute("/etc/config.toml", "d/x"); got != "/etc/d/x" {
			t.Errorf("%s: %s for what is no pattern", version, got)
		}
	}
}
