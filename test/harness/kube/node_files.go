package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/d8-registry/registry/test/harness/machine"
)

// partsDir is where a node finds the real parts.
const partsDir = "/run/parts"

// path is the node's PATH before that of every system.
func (n *Node) path() string {
	dirs := []string{"runc", "cni", "nft", "tree", "bin"}
	if n.options.Containerd != "" {
		dirs = append([]string{"containerd-" + n.options.Containerd}, dirs...)
	}
	for i, dir := range dirs {
		dirs[i] = partsDir + "/" + dir
	}
	return strings.Join(dirs, ":")
}

// writeSystem installs the machine: what an image of a node brings.
func (n *Node) writeSystem() error {
	if n.options.Containerd != "" {
		program := filepath.Join(filepath.Dir(n.env.binaries.Dir), "containerd-"+n.options.Containerd, "containerd")
		if _, err := os.Stat(program); err != nil {
			return fmt.Errorf("make node %s: %w; run: hack/parts.sh containerd-%s", n.Name, err, n.options.Containerd)
		}
	}
	for _, dir := range []string{
		"etc/cni/net.d", "etc/containerd", "etc/kubernetes/manifests",
		"var/lib/containerd", "var/lib/kubelet", "var/lib/cni", "var/log/pods", "var/tmp", "opt", "root",
	} {
		if err := os.MkdirAll(filepath.Join(n.dir(), dir), 0o755); err != nil {
			return fmt.Errorf("make node %s: %w", n.Name, err)
		}
	}
	if err := os.Symlink("/run", filepath.Join(n.dir(), "var", "run")); err != nil {
		return fmt.Errorf("make node %s: %w", n.Name, err)
	}
	id := sha256.Sum256([]byte(n.env.run.ID + n.Name))
	for path, content := range map[string]string{
		"/etc/ssl/certs/ca-certificates.crt": n.env.trust,
		"/etc/os-release":                    "NAME=node\nPRETTY_NAME=node\nID=debian\nVERSION_ID=\"12\"\n",
		"/etc/hostname":                      n.Name + "\n",
		"/etc/machine-id":                    hex.EncodeToString(id[:16]) + "\n",
	} {
		if err := n.writeFile(path, content, 0o644); err != nil {
			return err
		}
	}
	if err := n.writeFile(machine.RestartCommand, n.restartScript(), 0o700); err != nil {
		return err
	}
	if err := n.writeContainerd(); err != nil {
		return err
	}
	return n.writeRun()
}

// sysctls are what a kubelet wants of a kernel. The machine's own kernel is not
// to be changed: the node sees these instead.
func sysctls() map[string]string {
	return map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	}
}

const sysctlDir = "/run/sysctl"

// writeRun fills /run, which is empty when a machine is switched on.
func (n *Node) writeRun() error {
	for _, dir := range []string{"run/parts", "run/containerd", "run/lock", servicesDir} {
		if err := os.MkdirAll(filepath.Join(n.dir(), dir), 0o755); err != nil {
			return fmt.Errorf("make node %s: %w", n.Name, err)
		}
	}
	for key, value := range sysctls() {
		if err := n.writeFile(sysctlDir+"/"+key, value+"\n", 0o644); err != nil {
			return err
		}
	}
	return n.writeFile(supervisorPath, supervisor, 0o755)
}

// setUp is what the node's init does first.
func (n *Node) setUp() []string {
	commands := []string{
		"echo 1 >/proc/sys/net/ipv4/ip_forward",
		"echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects",
		"echo 0 >/proc/sys/net/ipv4/conf/default/send_redirects",
	}
	for _, key := range slices.Sorted(maps.Keys(sysctls())) {
		commands = append(commands, fmt.Sprintf("if [ -e /proc/sys/%[1]s ]; then mount --bind %[2]s/%[1]s /proc/sys/%[1]s; fi", key, sysctlDir))
	}
	return commands
}

// writeFile writes a file of the node.
func (n *Node) writeFile(path, content string, mode os.FileMode) error {
	path = filepath.Join(n.dir(), path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Snapshot tells the files below the node's /etc, for a comparison: by path
// their mode and a digest of their content.
func (n *Node) Snapshot() (map[string]string, error) {
	root := filepath.Join(n.dir(), "etc")
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			what += " " + hex.EncodeToString(sum[:])
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " " + to
		}
		files["/etc"+strings.TrimPrefix(path, root)] = what
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the files of %s: %w", n.Name, err)
	}
	return files, nil
}

// ConfigFile is a file below the node's /etc/containerd, as the host sees it.
func (n *Node) ConfigFile(name string) string {
	return filepath.Join(n.dir(), "etc", "containerd", name)
}
