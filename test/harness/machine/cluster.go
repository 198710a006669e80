package machine

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/d8-registry/registry/test/harness/cert"
)

// Options say what a cluster is made of.
type Options struct {
	// Binaries are the real parts; Ours is the folder of the product's, may be
	// empty.
	Binaries Binaries
	Ours     string
	// Registries are started and filled with Images.
	Registries []RegistryOptions
	// WebServers are hosts that answer everything with a web page.
	WebServers []string
	// Images are the names of the platform's images, Tags the tags of some.
	Images []string
	Tags   map[string]string
	// Large are images with a layer of this size, in bytes.
	Large map[string]int
	// ControlPlane and Workers are the names of the nodes.
	ControlPlane, Workers []string
	// Setups are what is special about some of the nodes, by name.
	Setups map[string]NodeSetup
	// Programs are the real processes of pods, by "kind.namespace.name" of
	// their workload, in lower case.
	Programs map[string]Program
}

// Program is the real process behind the pods of a workload. It gets a
// --kubeconfig with the token of the pod's ServiceAccount.
type Program struct {
	Path string
	Args []string
	Env  []string
	// OnNode runs it in the node's namespaces; otherwise every pod gets
	// namespaces of its own.
	OnNode bool
	// Ready returns nil when the pod is ready.
	Ready func(context.Context, *Space) error
}

// Cluster is what a run consists of.
type Cluster struct {
	Run        *Run
	Network    *Network
	API        *APIServer
	Platform   *Platform
	Registries []*Registry
	// Nodes grows by AddNode alone; whoever calls it may read it.
	Nodes   []*Node
	options Options
	log     *slog.Logger
	mu      sync.Mutex // over Nodes, for all others
	trust   string     // PEM of all CAs that nodes trust
}

// Start starts everything: registries, API server, nodes. On an error the
// caller still closes the run.
func Start(ctx context.Context, r *Run, o Options, log *slog.Logger) (*Cluster, error) {
	c := &Cluster{Run: r, options: o, log: log}
	var err error
	if c.Platform, err = NewPlatform(r.Path("blobs"), o.Images, o.Tags, o.Large); err != nil {
		return nil, err
	}
	if c.Network, err = NewNetwork(ctx, r); err != nil {
		return nil, err
	}
	authority, err := cert.NewAuthority("registries")
	if err != nil {
		return nil, err
	}
	c.trust = authority.PEM
	for _, ro := range o.Registries {
		g, err := NewRegistry(ctx, r, c.Network, o.Binaries, authority, ro)
		if err != nil {
			return nil, err
		}
		c.Registries = append(c.Registries, g)
		if err := c.Platform.Fill(g.Storage(), g.Path); err != nil {
			return nil, err
		}
	}
	for _, host := range o.WebServers {
		if err := startWebServer(ctx, r, c.Network, host); err != nil {
			return nil, err
		}
	}
	for _, name := range append(append([]string{}, o.ControlPlane...), o.Workers...) {
		n, err := newNode(ctx, r, c.Network, o.Binaries, o.Setups[name], o.Ours, name, c.trust)
		if err != nil {
			return nil, err
		}
		n.ControlPlane = len(c.Nodes) < len(o.ControlPlane)
		c.Nodes = append(c.Nodes, n)
	}
	return c, c.startProcesses(ctx)
}

// startProcesses starts the slow ones side by side.
func (c *Cluster) startProcesses(ctx context.Context) error {
	whole := ctx
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		c.API, err = StartAPIServer(ctx, c.Run, c.Network, c.options.Binaries, APIOptions{})
		return err
	})
	for _, g := range c.Registries {
		group.Go(func() error { return g.Start(ctx) })
	}
	for _, n := range c.Nodes {
		group.Go(func() error { return n.StartContainerd(ctx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	supervise, stop := context.WithCancel(whole)
	c.Run.OnClose(stop)
	for _, n := range c.Nodes {
		go n.superviseContainerd(supervise)
	}
	return nil
}

// AddNode has a node join while everything runs; it is told to the API server by
// CreateNode, as by its kubelet. Before that its containerd already answers.
func (c *Cluster) AddNode(ctx context.Context, name string) (*Node, error) {
	n, err := newNode(ctx, c.Run, c.Network, c.options.Binaries, c.options.Setups[name], c.options.Ours, name, c.trust)
	if err != nil {
		return nil, err
	}
	if err := n.StartContainerd(ctx); err != nil {
		return nil, err
	}
	supervise, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.Run.OnClose(stop)
	go n.superviseContainerd(supervise)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Nodes = append(c.Nodes, n)
	return n, nil
}

// nodes are all at this moment.
func (c *Cluster) nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.Nodes)
}

// Node finds a node by name.
func (c *Cluster) Node(name string) (*Node, error) {
	for _, n := range c.nodes() {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("there is no node %q", name)
}

// CRIs are the nodes' containerds, as kubelets speak to them.
func (c *Cluster) CRIs() []*CRI {
	all := make([]*CRI, 0, len(c.Nodes))
	for _, n := range c.Nodes {
		all = append(all, n.CRI)
	}
	return all
}

// NodeByIP finds the node that an address of an access log belongs to.
func (c *Cluster) NodeByIP(ip string) (string, bool) {
	for _, n := range c.Nodes {
		if n.Space.IP.String() == ip {
			return n.Name, true
		}
	}
	return "", false
}

// RegistryOf finds the registry that a reference names.
func (c *Cluster) RegistryOf(reference string) *Registry {
	for _, g := range c.Registries {
		if strings.HasPrefix(reference, g.Host+"/") {
			return g
		}
	}
	return nil
}
