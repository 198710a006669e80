package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/cert"
	"github.com/d8-registry/registry/test/harness/machine"
)

// Options say what a cluster is made of.
type Options struct {
	// Binaries are the real parts.
	Binaries machine.Binaries
	// Source is the folder of the module's source: images are built of it.
	Source string
	// Registries are started; the first is that of the installation. The platform
	// is in the first two. Empty: RegistryA and RegistryB.
	Registries []machine.RegistryOptions
	// Nodes are machines; empty: DefaultNodes.
	Nodes []NodeOptions
	// NoTaint leaves control-plane nodes open for everybody's pods.
	NoTaint bool
}

// RegistryA is the registry of the installation: Basic authentication.
func RegistryA() machine.RegistryOptions {
	return machine.RegistryOptions{
		Host: "registry-a.example.test", Path: "deckhouse/ee", Writable: true,
		Users: map[string]string{"license-token": "demo-licence-key"},
	}
}

// RegistryB is elsewhere: a port of its own, tokens, other
// credentials.
func RegistryB() machine.RegistryOptions {
	return machine.RegistryOptions{
		Host: "registry-b.example.test:5000", Path: "mirror/dh", Bearer: true, Writable: true,
		Users: map[string]string{"mirror-puller": "of-the-mirror"},
	}
}

// DefaultNodes are a control-plane node, a worker on containerd 1.7 as a machine
// of long ago has it, and a worker on the newest.
func DefaultNodes() []NodeOptions {
	return []NodeOptions{{Name: "m0", ControlPlane: true}, {Name: "w1", Containerd: "1.7"}, {Name: "w2"}}
}

// Cluster is a running Kubernetes with its registries.
type Cluster struct {
	Run        *machine.Run
	Network    *machine.Network
	API        *machine.APIServer
	Client     client.WithWatch // of a cluster admin
	Registries []*machine.Registry
	Nodes      []*Node
	// Spare are images that no workload runs: what nodes pull for the sake of
	// pulling. They share no blob.
	Spare []machine.Image

	options Options
	env     nodeEnv
	images  map[string]platformImage
	log     *slog.Logger
}

// Missing says what a cluster cannot be started without on this machine, one
// sentence each; empty when nothing is missing.
func Missing(b machine.Binaries) []string {
	missing := machine.Missing()
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "registry", "pause", "coredns", "helm", "yq"} {
		if info, err := os.Stat(b.Path(name)); err != nil || info.IsDir() {
			missing = append(missing, fmt.Sprintf("%s (run: hack/parts.sh %s)", b.Path(name), name))
		}
	}
	for _, name := range []string{"runc", "cni", "nft", "tree", "containerd-1.6", "containerd-1.7"} {
		if info, err := os.Stat(filepath.Join(filepath.Dir(b.Dir), name)); err != nil || !info.IsDir() {
			missing = append(missing, fmt.Sprintf("%s (run: hack/parts.sh %s)", filepath.Join(filepath.Dir(b.Dir), name), name))
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		missing = append(missing, "go: images are built")
	}
	return missing
}

// Start starts everything and returns when every node is Ready and names are
// resolved. On an error the caller still closes the run.
func Start(ctx context.Context, r *machine.Run, o Options, log *slog.Logger) (*Cluster, error) {
	if len(o.Registries) == 0 {
		o.Registries = []machine.RegistryOptions{RegistryA(), RegistryB()}
	}
	if len(o.Nodes) == 0 {
		o.Nodes = DefaultNodes()
	}
	var err error
	if o.Source, err = filepath.Abs(o.Source); err != nil {
		return nil, fmt.Errorf("folder of the source: %w", err)
	}
	c := &Cluster{Run: r, options: o, log: log, images: map[string]platformImage{}}
	if c.Network, err = machine.NewNetwork(ctx, r); err != nil {
		return nil, err
	}
	trust, err := c.makeRegistries(ctx)
	if err != nil {
		return nil, err
	}
	group, side := errgroup.WithContext(ctx)
	group.Go(func() error { return c.startRegistries(side) })
	group.Go(func() error { return c.startPlane(side) })
	var preload []string
	group.Go(func() (err error) {
		preload, err = c.preloaded()
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	c.env = nodeEnv{run: r, network: c.Network, binaries: o.Binaries, api: c.API, trust: trust, preload: preload, log: log}
	if err := c.startNodes(ctx); err != nil {
		return nil, err
	}
	return c, c.startDNS(ctx)
}

// makeRegistries makes the registries' names known: before the first node.
func (c *Cluster) makeRegistries(ctx context.Context) (trust string, err error) {
	authority, err := cert.NewAuthority("registries")
	if err != nil {
		return "", err
	}
	names := make([]string, spareImages)
	for i := range names {
		names[i] = fmt.Sprintf("spare/image-%d", i)
	}
	spare, err := machine.NewPlatform(c.Run.Path("blobs"), names, nil, nil)
	if err != nil {
		return "", err
	}
	c.Spare = spare.Images
	for i, o := range c.options.Registries {
		g, err := machine.NewRegistry(ctx, c.Run, c.Network, c.options.Binaries, authority, o)
		if err != nil {
			return "", err
		}
		c.Registries = append(c.Registries, g)
		if i > 1 {
			continue // no registry of the platform
		}
		if err := spare.Fill(g.Storage(), g.Path); err != nil {
			return "", err
		}
	}
	return authority.PEM, nil
}

func (c *Cluster) startRegistries(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, g := range c.Registries {
		group.Go(func() error { return g.Start(ctx) })
	}
	return group.Wait()
}

// startNodes starts all nodes side by side.
func (c *Cluster) startNodes(ctx context.Context) error {
	for _, o := range c.options.Nodes {
		n, err := newNode(ctx, c.env, c.nodeOptions(o))
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, n)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		group.Go(func() error { return c.startNode(ctx, n) })
	}
	return group.Wait()
}

// Node finds a node by name.
func (c *Cluster) Node(name string) (*Node, error) {
	if i := slices.IndexFunc(c.Nodes, func(n *Node) bool { return n.Name == name }); i >= 0 {
		return c.Nodes[i], nil
	}
	return nil, fmt.Errorf("there is no node %q", name)
}

// AddNode adds a machine and returns when its Node is Ready.
func (c *Cluster) AddNode(ctx context.Context, o NodeOptions) (*Node, error) {
	n, err := newNode(ctx, c.env, c.nodeOptions(o))
	if err != nil {
		return nil, err
	}
	c.Nodes = append(c.Nodes, n)
	return n, c.startNode(ctx, n)
}

// RemoveNode takes a machine away for good: it is switched off, and its Node is
// deleted. AddNode with its name is another machine.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	n, err := c.Node(name)
	if err != nil {
		return err
	}
	if err := n.Stop(ctx); err != nil {
		return err
	}
	c.Nodes = slices.DeleteFunc(c.Nodes, func(other *Node) bool { return other == n })
	_, err = c.Kubectl(ctx, "", "delete", "node", name)
	return err
}

// Scheme knows every kind that a cluster with the module has.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, deckhousev1alpha1.AddToScheme, registryv1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("scheme: %w", err)
		}
	}
	return s, nil
}

const pollEvery = 100 * time.Millisecond

// waitUntil calls done until it returns nil; the last error is returned when ctx
// ends first.
func waitUntil(ctx context.Context, what string, done func(context.Context) error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for %s: %w", what, err), ctx.Err())
		}
	}
}
