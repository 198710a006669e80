package nodeservices

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// process puts a process into a list of them, with a root of its own.
func process(t *testing.T, proc, pid, namespace, args string, files map[string]string) string {
	t.Helper()
	at := filepath.Join(proc, pid)
	must(t, os.MkdirAll(filepath.Join(at, "ns"), 0o755))
	must(t, os.Symlink("mnt:["+namespace+"]", filepath.Join(at, "ns", "mnt")))
	must(t, os.Symlink("/srv", filepath.Join(at, "cwd")))
	must(t, os.WriteFile(filepath.Join(at, "cmdline"), []byte(strings.ReplaceAll(args, " ", "\x00")+"\x00"), 0o644))
	must(t, os.Mkdir(filepath.Join(at, "root"), 0o755))
	for name, text := range files {
		file := filepath.Join(at, "root", name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o600))
	}
	return at
}

// TestStaticPodPath goes by what kubelets are started with, and finds none rather than to
// guess.
func TestStaticPodPath(t *testing.T) {
	t.Parallel()
	const file = "/var/lib/kubelet/config.yaml"
	yes := map[string]string{file: "staticPodPath: /etc/kubernetes/manifests\n"}
	for name, row := range map[string]struct {
		args  string
		files map[string]string
		want  string
		why   string
	}{
		"kubeadm":               {"/usr/bin/kubelet --kubeconfig=/k --config=" + file, yes, "/etc/kubernetes/manifests", ""},
		"in two words":          {"kubelet --config " + file, yes, "/etc/kubernetes/manifests", ""},
		"by a flag":             {"kubelet --config=" + file + " --pod-manifest-path=/etc/pods/", yes, "/etc/pods", ""},
		"the last flag":         {"kubelet --pod-manifest-path=/a --pod-manifest-path=/b", nil, "/b", ""},
		"RKE2":                  {"kubelet --pod-manifest-path=/var/lib/rancher/rke2/agent/pod-manifests", nil, "/var/lib/rancher/rke2/agent/pod-manifests", ""},
		"a flag that says none": {"kubelet --pod-manifest-path= --config=" + file, yes, "", "no staticPodPath"},
		"a relative file":       {"kubelet --config=kubelet.yaml", map[string]string{"/srv/kubelet.yaml": "staticPodPath: pods"}, "/srv/pods", ""},
		"drop-ins": {"kubelet --config=" + file + " --config-dir=/d", map[string]string{
			file: yes[file], "/d/10.conf": "staticPodPath: /one", "/d/20.conf": "staticPodPath: /two", "/d/30.yaml": "staticPodPath: /three", "/d/40.conf": "maxPods: 5",
		}, "/two", ""},
		"JSON":               {"kubelet --config=" + file, map[string]string{file: `{"staticPodPath":"/pods"}`}, "/pods", ""},
		"none":               {"kubelet --config=" + file, map[string]string{file: "maxPods: 5"}, "", "no staticPodPath"},
		"no file":            {"kubelet", nil, "", "no staticPodPath"},
		"the file is gone":   {"kubelet --config=/gone", nil, "", "no such file"},
		"no drop-ins":        {"kubelet --config-dir=/gone", nil, "", "no such file"},
		"no YAML":            {"kubelet --config=" + file, map[string]string{file: "secret: {{{"}, "", "no YAML"},
		"one file of pods":   {"kubelet --pod-manifest-path=/pod.yaml", map[string]string{"/pod.yaml": ""}, "", "no folder, but a file"},
		"another program":    {"/usr/local/bin/k3s server", yes, "", "no kubelet"},
		"a name in the path": {"/opt/kubelet/helper --config=" + file, yes, "", "no kubelet"},
	} {
		proc := t.TempDir()
		process(t, proc, "1", "1", "/sbin/init", nil)
		process(t, proc, "7", "1", row.args, row.files)
		must(t, os.WriteFile(filepath.Join(proc, "version"), nil, 0o600))
		got, err := StaticPodPath(proc)
		if got != row.want || (err == nil) != (row.want != "") || err != nil && (!errors.Is(err, ErrNoStaticPods) || !strings.Contains(err.Error(), row.why) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestAnyProcessMayBeCalledKubelet: one in a container, or of another user, decides nothing.
func TestAnyProcessMayBeCalledKubelet(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	process(t, proc, "1", "1", "/sbin/init", nil)
	process(t, proc, "5", "2", "kubelet --pod-manifest-path=/in/a/container", nil)
	if err := owner(process(t, proc, "6", "1", "kubelet --pod-manifest-path=/of/a/user", nil), 1000); err != nil {
		t.Skip("only root can give files away")
	}
	if got, err := StaticPodPath(proc); !errors.Is(err, ErrNoStaticPods) {
		t.Errorf("%q, %v", got, err)
	}
	at := process(t, proc, "7", "1", "kubelet --config=/etc/kubelet", map[string]string{"/etc/x": ""})
	must(t, syscall.Mkfifo(filepath.Join(at, "root/etc/kubelet"), 0o600))
	if _, err := StaticPodPath(proc); err == nil || !strings.Contains(err.Error(), "no file that a kubelet reads") {
		t.Errorf("a pipe: %v", err)
	}
	must(t, os.Remove(filepath.Join(at, "root/etc/kubelet")))
	must(t, os.WriteFile(filepath.Join(at, "root/etc/kubelet"), []byte("staticPodPath: /pods"), 0o600))
	if got, err := StaticPodPath(proc); got != "/pods" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
