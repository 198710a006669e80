package containerd

import "testing"

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

func TestMajor(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]int{
		"v2.4.2": 2, "2.1.0-rc.1": 2, "1.6.20~ds1": 1, "v1.7.35-k3s1": 1, "3": 3, "": -1, "main": -1,
	} {
		if got := major(version); got != want {
			t.Errorf("%q: %d, want %d", version, got, want)
		}
	}
}
