package kube

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const containerdService = "containerd"

// SandboxImage holds the namespaces of pods. It is imported, never pulled.
const SandboxImage = "registry.k8s.io/pause:3.10"

// containerd2Config says where things are, and names the directory of hosts, so
// that no first switch has to restart containerd for it.
const containerd2Config = `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "SNAPSHOTTER"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "` + SandboxImage + `"

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "/etc/containerd/registry.d"

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = RESTRICT

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["` + partsDir + `/cni"]
  conf_dir = "/etc/cni/net.d"

[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = "linux"
  snapshotter = "SNAPSHOTTER"

[plugins.'io.containerd.internal.v1.opt']
  path = "/var/lib/containerd/opt"
`

// containerd1Config is as it was written years ago: no directory of hosts.
const containerd1Config = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + SandboxImage + `"
  restrict_oom_score_adj = RESTRICT
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "SNAPSHOTTER"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + partsDir + `/cni"
    conf_dir = "/etc/cni/net.d"
`

// writeContainerd writes containerd's configuration.
func (n *Node) writeContainerd() error {
	config := containerd2Config
	if n.options.Containerd != "" {
		config = containerd1Config
	}
	config = strings.NewReplacer("SNAPSHOTTER", n.snapshotter(), "RESTRICT", strconv.FormatBool(!mayLowerOOM())).Replace(config)
	files := map[string]string{"config.toml": config}
	maps.Copy(files, n.options.Files)
	for name, content := range files {
		if err := n.writeFile("/etc/containerd/"+name, content, 0o644); err != nil {
			return err
		}
	}
	if n.options.Containerd != "" {
		return nil
	}
	return os.MkdirAll(n.ConfigFile("registry.d"), 0o755)
}

// startContainerd returns when containerd works for kubelets.
func (n *Node) startContainerd(ctx context.Context) error {
	if err := n.launch(ctx, Service{Name: containerdService, Path: "containerd", Args: []string{"--config=/etc/containerd/config.toml"}}); err != nil {
		return err
	}
	return n.waitService(ctx, containerdService, func(ctx context.Context) error {
		_, err := n.ContainerdVersion(ctx)
		return err
	})
}

// restartScript restarts containerd as `systemctl restart` does: it returns when
// containerd answers again, and gives up after 20 s, before the agent does.
func (n *Node) restartScript() string {
	return `#!/bin/sh
PATH=` + n.path() + `:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
last() { tail -n 1 ` + servicesDir + "/" + containerdService + `; }
old=$(last)
kill -TERM "${old% *}" 2>/dev/null
for i in $(seq 200); do
	[ "$(last)" != "$old" ] && timeout 5 ctr version >/dev/null 2>&1 && exit 0
	sleep 0.1
done
echo "containerd does not answer" >&2
exit 1
`
}

// mayLowerOOM reports whether this process may make the kernel's OOM killer
// spare others more than itself: containers are to be, at their start.
func mayLowerOOM() bool {
	const sysResource = 24 // CAP_SYS_RESOURCE
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), "CapEff:\t")
	mask, err := strconv.ParseUint(strings.TrimSpace(rest[:min(len(rest), 16)]), 16, 64)
	return err == nil && mask&(1<<sysResource) != 0
}

// snapshotter is overlayfs where the run's folder can hold it, else copies are
// made.
func (n *Node) snapshotter() string {
	if n.overlays {
		return "overlayfs"
	}
	return "native"
}

// holdsOverlays tries it, in a mount namespace of its own.
func holdsOverlays(dir string) bool {
	dir, err := os.MkdirTemp(dir, "overlay-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir) //nolint:errcheck // goes with the run at the latest
	for _, sub := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return false
		}
	}
	cmd := exec.Command("mount", "-t", "overlay", "overlay", "-o", "lowerdir=lower,upperdir=upper,workdir=work", "merged") //nolint:noctx // a system call, no more
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return cmd.Run() == nil
}
