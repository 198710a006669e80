package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
)

// Where a node's processes find things, inside.
const (
	nodeParts = "/run/parts" // the real parts
	nodeOurs  = "/run/ours"  // the product's binaries
	// StaticPodFolder is where the kubelet that is played looks for static pods.
	StaticPodFolder = "/etc/kubernetes/manifests"
)

// containerdConfig says where things are; what containerd does with host
// directories is stock. The path has to be named: without it, 2.4 looks into a
// folder "/etc/containerd/certs.d:/etc/docker/certs.d", colon included. Snapshots
// are copies, for not every file system can hold overlays.
const containerdConfig = `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "` + nodeSock + `"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "native"

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "/etc/containerd/registry.d"

[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = "linux/` + runtime.GOARCH + `"
  snapshotter = "native"

[plugins.'io.containerd.internal.v1.opt']
  path = "/var/lib/containerd/opt"
`

// Node is one node: namespaces, a containerd, and what the agent needs.
type Node struct {
	*CRI
	Name         string
	ControlPlane bool
	Space        *Space

	setup      NodeSetup
	run        *Run
	mu         sync.Mutex
	containerd *Process
	starts     int
	with       []string // images that it came with
}

// newNode makes a node's namespaces; ours is the folder of the product's
// binaries, trust the PEM of all CAs that the node's system trusts.
func newNode(ctx context.Context, r *Run, n *Network, b Binaries, setup NodeSetup, ours, name, trust string) (*Node, error) {
	dir := r.Path("spaces", name)
	parts, err := setup.parts(b)
	if err != nil {
		return nil, fmt.Errorf("make node %s: %w", name, err)
	}
	for _, sub := range []string{"run/parts", "run/ours", "run/containerd", "var/lib/containerd", "var/log", "var/tmp", "opt", "etc/containerd/registry.d"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("make node %s: %w", name, err)
		}
	}
	for file, content := range map[string]string{
		"etc/ssl/certs/ca-certificates.crt": trust,
		"etc/os-release":                    "NAME=demo\nID=debian\nVERSION_ID=\"12\"\n",
		"etc/hostname":                      name + "\n",
	} {
		if err := writeFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	if err := setup.write(dir); err != nil {
		return nil, err
	}
	folders := []Folder{{parts, "./run/parts"}, {"./var", "/var"}, {"./opt", "/opt"}, {"./run", "/run"}}
	if ours != "" {
		folders = append([]Folder{{ours, "./run/ours"}}, folders...)
	}
	space, err := n.NewSpace(ctx, name, folders...)
	if err != nil {
		return nil, err
	}
	space.parts = nodeParts
	cri, err := NewCRI(r, space)
	if err != nil {
		return nil, err
	}
	return &Node{CRI: cri, Name: name, Space: space, setup: setup, run: r}, nil
}

// StartContainerd starts the node's containerd and returns when it answers.
func (n *Node) StartContainerd(ctx context.Context) error {
	path, args := n.setup.command()
	process, err := n.run.StartProcess(Command{Name: "containerd-" + n.Name, Space: n.Space, Path: path, Args: args})
	if err != nil {
		return err
	}
	if err := n.note(pidFile, process); err != nil {
		return err
	}
	n.mu.Lock()
	n.starts++
	n.containerd = process
	n.mu.Unlock()
	if err := process.WaitReady(ctx, func(ctx context.Context) error {
		_, err := n.ContainerdVersion(ctx)
		return err
	}); err != nil {
		return err
	}
	return n.note(readyFile, process)
}

// note tells the restart command of a process.
func (n *Node) note(file string, p *Process) error {
	return writeFile(filepath.Join(n.Space.Dir, file), []byte(strconv.Itoa(p.PID)+"\n"), 0o644)
}

// superviseContainerd starts containerd again when it ends, as an init system
// would, until ctx ends.
func (n *Node) superviseContainerd(ctx context.Context) {
	for {
		n.mu.Lock()
		process := n.containerd
		n.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-process.Done():
		}
		if err := n.StartContainerd(ctx); err != nil {
			_ = pause(ctx, pullAgain) // the end of ctx ends the loop
		}
	}
}

// ContainerdStarts is how often containerd was started.
func (n *Node) ContainerdStarts() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.starts
}

// HostDirectories is where the node's containerd looks for hosts.toml, as the
// host sees it.
func (n *Node) HostDirectories() string {
	return filepath.Join(n.Space.Dir, "etc", "containerd", "registry.d")
}

// ConfigFile is a file below the node's /etc/containerd, as the host sees it.
func (n *Node) ConfigFile(name string) string {
	return filepath.Join(n.Space.Dir, "etc", "containerd", name)
}

// ComeWith puts an image on the node under a name, as if its disk had been made with
// it: no kubelet pulls it. It is read from where it can be pulled now.
func (n *Node) ComeWith(ctx context.Context, name, from string, login Login) error {
	if err := n.Pull(ctx, from, login); err != nil {
		return fmt.Errorf("an image for node %s: %w", n.Name, err)
	}
	ctr := n.Space.Command(ctx, nodeParts+"/ctr", "--address="+nodeSock, "--namespace=k8s.io", "images", "tag", from, name)
	if out, err := ctr.CombinedOutput(); err != nil {
		return fmt.Errorf("an image for node %s: %w: %s", n.Name, err, out)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.with = append(n.with, name)
	return nil
}

func (n *Node) came(image string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.with, image)
}
