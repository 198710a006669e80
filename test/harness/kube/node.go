package kube

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/d8-registry/registry/test/harness/machine"
)

// NodeOptions are what a node of the cluster is.
type NodeOptions struct {
	// Name is the name of the Node, too.
	Name         string
	ControlPlane bool
	// Containerd is its version: "1.6", "1.7", or empty for the newest.
	Containerd string
	// Labels are those that its kubelet registers it with.
	Labels map[string]string
	// Files are put below the node's /etc/containerd before the first start, by
	// path.
	Files map[string]string
}

// apiAccess is what a kubelet needs of the control plane.
type apiAccess interface {
	// InsideURL is the API server as nodes reach it.
	InsideURL() string
	// CA is the PEM of the cluster's authority.
	CA() string
	// IssueClient makes a certificate of that authority, as PEM.
	IssueClient(subject pkix.Name, names ...string) (cert, key []byte, err error)
	// ClientKubeconfig is a kubeconfig with such a certificate.
	ClientKubeconfig(subject pkix.Name) ([]byte, error)
}

// nodeEnv is what nodes share.
type nodeEnv struct {
	run      *machine.Run
	network  *machine.Network
	binaries machine.Binaries
	api      apiAccess
	// trust is the PEM of all authorities that the nodes' systems trust.
	trust string
	// preload are archives of images that a node has from its first start on.
	preload []string
	log     *slog.Logger
}

// Node is a machine of the cluster: namespaces with an init of its own, and
// containerd and a kubelet that are started again when they end.
type Node struct {
	*machine.CRI
	Name         string
	ControlPlane bool
	Space        *machine.Space

	options NodeOptions
	env     nodeEnv
	pods    netip.Prefix // the subnet of its pods
	cgroup  string       // above the groups of its pods
	// overlays tells that its disk can hold overlay file systems.
	overlays bool

	mu       sync.Mutex
	services []Service // those that others have it run, in their order
}

// newNode makes a node's namespaces and files. Nothing of it runs yet.
func newNode(ctx context.Context, env nodeEnv, o NodeOptions) (*Node, error) {
	n := &Node{Name: o.Name, ControlPlane: o.ControlPlane, options: o, env: env}
	if err := os.MkdirAll(n.dir(), 0o750); err != nil {
		return nil, fmt.Errorf("make node %s: %w", o.Name, err)
	}
	if err := emptyFolder(n.dir()); err != nil { // of a machine of that name which was removed
		return nil, err
	}
	n.overlays = holdsOverlays(n.dir())
	if err := n.writeSystem(); err != nil {
		return nil, err
	}
	parts := filepath.Dir(env.binaries.Dir)
	var err error
	if n.Space, err = env.network.NewMachine(ctx, o.Name, n.path(), n.setUp(),
		machine.Folder{From: parts, To: "./run/parts"},
		machine.Folder{From: "./var", To: "/var"}, machine.Folder{From: "./opt", To: "/opt"}, machine.Folder{From: "./run", To: "/run"}); err != nil {
		return nil, err
	}
	if n.CRI, err = machine.NewCRI(env.run, n.Space); err != nil {
		return nil, err
	}
	n.pods = podSubnet(n.Space.IP)
	return n, nil
}

// dir holds the node's /etc, /var, /opt and /run.
func (n *Node) dir() string { return n.env.run.Path("spaces", n.Name) }

// start starts containerd and the kubelet and returns when both answer; then
// what others have the node run. On the Node nobody waits.
func (n *Node) start(ctx context.Context) error {
	if err := n.env.network.RoutePods(ctx, n.pods, n.Space); err != nil {
		return err
	}
	if err := n.writeCNI(); err != nil {
		return err
	}
	if err := n.startContainerd(ctx); err != nil {
		return err
	}
	for _, archive := range n.env.preload {
		if err := n.ImportImage(ctx, archive); err != nil {
			return err
		}
	}
	if err := n.startKubelet(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	services := n.services
	n.mu.Unlock()
	for _, s := range services {
		if err := n.launch(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// Stop switches the machine off: everything that runs on it ends at once. Its
// disk stays.
func (n *Node) Stop(ctx context.Context) error {
	if err := n.Space.PowerOff(ctx); err != nil {
		return err
	}
	if err := n.env.network.UnroutePods(ctx, n.pods); err != nil {
		return err
	}
	if n.cgroup == "" {
		return nil
	}
	return n.env.run.RemoveCgroup(n.cgroup)
}

// Start switches a machine on that was stopped.
func (n *Node) Start(ctx context.Context) error {
	if err := emptyFolder(filepath.Join(n.dir(), "run")); err != nil {
		return err
	}
	if err := n.writeRun(); err != nil {
		return err
	}
	if err := n.Space.Restart(ctx); err != nil {
		return err
	}
	return n.start(ctx)
}

// Reimage switches the machine off, wipes its disk and installs it anew, with
// the same name and address. The Node object stays: the new kubelet takes it.
func (n *Node) Reimage(ctx context.Context) error {
	if err := n.Stop(ctx); err != nil {
		return err
	}
	if err := emptyFolder(n.dir()); err != nil {
		return err
	}
	if err := n.writeSystem(); err != nil {
		return err
	}
	if err := n.Space.Restart(ctx); err != nil {
		return err
	}
	return n.start(ctx)
}

func emptyFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("empty %s: %w", dir, err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("empty %s: %w", dir, err)
		}
	}
	return nil
}

// Run runs a program on the node as its administrator would, and returns what it
// printed. The error holds what it said.
func (n *Node) Run(ctx context.Context, stdin string, argv ...string) (string, error) {
	return n.runWith(ctx, strings.NewReader(stdin), argv...)
}

func (n *Node) runWith(ctx context.Context, stdin io.Reader, argv ...string) (string, error) {
	cmd := n.Space.Command(ctx, argv...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s on %s: %w: %s", strings.Join(argv, " "), n.Name, err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// ImportImage puts the images of an archive into containerd, where the kubelet
// finds them, as an installer does. The path is the host's.
func (n *Node) ImportImage(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("import an image into %s: %w", n.Name, err)
	}
	defer f.Close() //nolint:errcheck // read only
	_, err = n.runWith(ctx, f, "ctr", "-n", "k8s.io", "images", "import", "--snapshotter", n.snapshotter(), "-")
	return err
}

// httpClient speaks to what listens in the node's network.
func (n *Node) httpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: n.Space.DialContext}}
}
