package testcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Where a node's processes find things, inside.
const (
	nodeParts = "/run/parts" // the real parts
	nodeOurs  = "/run/ours"  // the product's binaries
	nodeSock  = "/run/containerd/containerd.sock"
	// pullWithin is how long one pull may take. containerd itself gives up
	// earlier on every host that does not answer.
	pullWithin = 2 * time.Minute
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
	Name         string
	ControlPlane bool
	Space        *Space

	setup      NodeSetup
	run        *Run
	mu         sync.Mutex
	containerd *Process
	starts     int
	sockets    *os.File // folder of containerd's socket, as the host sees it
	conn       *grpc.ClientConn
	images     runtimeapi.ImageServiceClient
	cri        runtimeapi.RuntimeServiceClient
}

// newNode makes a node's namespaces; ours is the folder of the product's
// binaries, trust the PEM of all CAs that the node's system trusts.
func newNode(ctx context.Context, r *Run, n *Network, b Binaries, setup NodeSetup, ours, name, trust string) (*Node, error) {
	dir := r.Path("spaces", name)
	parts, err := setup.parts(b)
	if err != nil {
		return nil, fmt.Errorf("make node %s: %w", name, err)
	}
	for _, sub := range []string{"run/parts", "run/ours", "run/containerd", "var/lib/containerd", "var/log", "var/tmp", "etc/containerd/registry.d"} {
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
	folders := []Folder{{parts, "./run/parts"}, {"./var", "/var"}, {"./run", "/run"}}
	if ours != "" {
		folders = append([]Folder{{ours, "./run/ours"}}, folders...)
	}
	space, err := n.NewSpace(ctx, name, folders...)
	if err != nil {
		return nil, err
	}
	space.parts = nodeParts
	sockets, err := os.Open(filepath.Join(dir, "run", "containerd"))
	if err != nil {
		return nil, fmt.Errorf("make node %s: %w", name, err)
	}
	return &Node{Name: name, Space: space, setup: setup, run: r, sockets: sockets}, nil
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
	if n.conn == nil {
		if err := n.connect(); err != nil {
			return err
		}
	}
	if err := process.WaitReady(ctx, func(ctx context.Context) error {
		_, err := n.cri.Version(ctx, &runtimeapi.VersionRequest{})
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

// connect prepares the CRI client. The socket's path may be longer than a
// socket address can be, hence the way through an open folder.
func (n *Node) connect() error {
	path := "/proc/self/fd/" + strconv.Itoa(int(n.sockets.Fd())) + "/containerd.sock"
	conn, err := grpc.NewClient("passthrough:///"+n.Name,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return fmt.Errorf("connect to containerd of %s: %w", n.Name, err)
	}
	n.run.OnClose(func() { _ = conn.Close() })
	n.conn, n.images, n.cri = conn, runtimeapi.NewImageServiceClient(conn), runtimeapi.NewRuntimeServiceClient(conn)
	return nil
}

// ContainerdVersion asks the node's containerd.
func (n *Node) ContainerdVersion(ctx context.Context) (string, error) {
	v, err := n.cri.Version(ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		return "", fmt.Errorf("version of containerd on %s: %w", n.Name, err)
	}
	return v.RuntimeVersion, nil
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

// Pull is one CRI PullImage, as the kubelet does it: user and password of the
// pull secret, no server address.
func (n *Node) Pull(ctx context.Context, reference string, auth Login) error {
	ctx, cancel := context.WithTimeout(ctx, pullWithin)
	defer cancel()
	req := &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: reference, UserSpecifiedImage: reference}}
	if auth != (Login{}) {
		req.Auth = &runtimeapi.AuthConfig{Username: auth.Username, Password: auth.Password}
	}
	_, err := n.images.PullImage(ctx, req)
	return err
}

// Interrupted reports whether a pull failed because containerd went away.
func Interrupted(err error) bool {
	// For a moment after its start containerd answers before its CRI can.
	return status.Code(err) == codes.Unavailable || err != nil && strings.Contains(err.Error(), "server is not initialized yet")
}

// Answers waits until containerd pulls for the kubelet, as after a restart.
func (n *Node) Answers(ctx context.Context) error {
	return waitUntil(ctx, "containerd of "+n.Name, func(ctx context.Context) error {
		_, err := n.images.ListImages(ctx, &runtimeapi.ListImagesRequest{}, grpc.WaitForReady(true))
		return err
	})
}

// Forget removes an image under all its names, and with it its content. While
// containerd is away it waits.
func (n *Node) Forget(ctx context.Context, image Image) error {
	err := n.forget(ctx, image)
	if Interrupted(err) {
		if err := n.Answers(ctx); err != nil {
			return err
		}
		return n.forget(ctx, image)
	}
	return err
}

func (n *Node) forget(ctx context.Context, image Image) error {
	spec := &runtimeapi.ImageSpec{Image: image.ConfigDigest}
	if _, err := n.images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: spec}); err != nil {
		return fmt.Errorf("remove %s from %s: %w", image.Name, n.Name, err)
	}
	found, err := n.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil {
		return fmt.Errorf("look for %s on %s: %w", image.Name, n.Name, err)
	}
	if found.Image != nil {
		return fmt.Errorf("%s is still on %s after its removal", image.Name, n.Name)
	}
	return nil
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

// Close lets go of the socket's folder.
func (n *Node) Close() error { return errors.Join(n.sockets.Close()) }

// Login is a user name and a password of a pull secret.
type Login struct{ Username, Password string }
