package containerd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigArgument(t *testing.T) {
	t.Parallel()
	for cmdline, want := range map[string]string{
		"/usr/bin/containerd\x00":                                     "/etc/containerd/config.toml",
		"containerd\x00--config\x00/a\x00":                            "/a",
		"containerd\x00--log-level\x00debug\x00-c\x00b/c.toml\x00":    "b/c.toml",
		"containerd\x00--config=/etc/k3s.toml\x00--root\x00/x\x00":    "/etc/k3s.toml",
		"containerd\x00-c\x00":                                        "/etc/containerd/config.toml",
		"containerd\x00--root\x00/var/lib/c\x00--address\x00/run\x00": "/etc/containerd/config.toml",
	} {
		if got := configArgument([]byte(cmdline)); got != want {
			t.Errorf("%q: %q, want %q", cmdline, got, want)
		}
	}
}

// TestBinaryOfManyPrograms is k3s', which does what it is called as.
func TestBinaryOfManyPrograms(t *testing.T) {
	t.Parallel()
	p := Process{PID: os.Getpid(), Binary: "/bin/sh", Name: "containerd"}
	if got, err := p.run(t.Context(), "-c", "echo $0"); err != nil || string(got) != "containerd\n" {
		t.Errorf("%q, %v", got, err)
	}
	p.Name = ""
	if got, err := p.run(t.Context(), "-c", "echo $0"); err != nil || string(got) != "/bin/sh\n" {
		t.Errorf("%q, %v", got, err)
	}
	_, err := p.run(t.Context(), "-c", "printf PASS%s WORD >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || strings.Contains(err.Error(), "PASSWORD") {
		t.Errorf("%v", err) // the command is named, what it says is not
	}
}

func TestStartTime(t *testing.T) {
	t.Parallel()
	stat := "1234 (a (b) c) S 1 1234 1234 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 5557 100 200 18446744073709551615\n"
	if got, err := startTime([]byte(stat)); err != nil || got != "5557" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2"} {
		if _, err := startTime([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestOlder(t *testing.T) {
	t.Parallel()
	for version, want := range map[string][2]bool{ // before 2.0, before 2.1
		"v2.4.2": {}, "2.1.0-rc.1": {}, "3": {}, "v2.0.5": {false, true}, "2": {false, true},
		"1.6.20~ds1": {true, true}, "v1.7.35-k3s1": {true, true}, "": {true, true}, "main": {true, true},
	} {
		if got := [2]bool{Older(version, 2, 0), Older(version, 2, 1)}; got != want {
			t.Errorf("%q: %v, want %v", version, got, want)
		}
	}
}

func TestAbsoluteLink(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "data/certs.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"etc/inside": "../data", "etc/outside": "/data", "etc/chain": "inside/../etc/outside", "etc/loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/data/certs.d": "", "/etc/inside/certs.d": "", "/not/there": "", "/etc/loop/x": "",
		"/etc/outside/certs.d": "/etc/outside", "/etc/outside": "/etc/outside", "/etc/chain/certs.d": "/etc/outside",
	} {
		if got := absoluteLink(root, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	// In a pod the root is reached by a link: /proc/1/root.
	link := filepath.Join(t.TempDir(), "root")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/data/certs.d": "", "/etc/../data": "", "/etc/outside/x": "/etc/outside"} {
		if got := foreignLink(link, path); got != want {
			t.Errorf("%s below a root that is a link: %q, want %q", path, got, want)
		}
	}
	if got := foreignLink("/proc/self/root", filepath.Join(root, "etc/outside")); got != "" {
		t.Errorf("the same root: %q", got)
	}
	if got := foreignLink(root, "/etc/outside"); got != "/etc/outside" {
		t.Errorf("another root: %q", got)
	}
}
