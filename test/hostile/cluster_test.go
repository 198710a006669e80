package hostile

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/controller"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/stores"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

const (
	stepTimeout = 60 * time.Second // a healthy step takes a fraction
	pathA       = "deckhouse/ee"
	pathB       = "mirror/d8"
)

// cluster is a real API server with the real controller, two real registries and
// nodes whose agents report as honest ones do, each with its own token. Without
// runPods there are no kubelets: a switch gets as far as the in-cluster proxy,
// after every node.
type cluster struct {
	t *testing.T
	*installation.Cluster
	api  *apiserver.API
	a, b *testregistry.Registry
	// proxy is where the in-cluster proxy listens; empty without kubelets.
	proxy string
	// rotations are the controller's settings of them.
	rotations state.Rotations
	// selector is --platform-selector; nil for the default.
	selector *string

	mu     sync.Mutex
	agents map[string]client.Client // by node
	liars  map[string]bool          // nodes whose owner reports instead
}

// newCluster is in Unmanaged on registry A. The first node is control plane.
func newCluster(t *testing.T, nodes ...string) *cluster {
	t.Helper()
	api := servers.TakeNew(t)
	c := &cluster{t: t, api: api, Cluster: installation.New(t, api.Client(), stepTimeout), agents: map[string]client.Client{}, liars: map[string]bool{}}
	c.a = testregistry.New(t, testregistry.Options{TLS: true, Username: "license-token", Password: "key-of-a"})
	c.b = testregistry.New(t, testregistry.Options{TLS: true, Bearer: true, Username: "robot", Password: "password-of-b"})
	c.b.Push(t, pathB, "v1", c.a.PushRandom(t, pathA, "v1", 1, 64))
	for i, name := range nodes {
		c.Node(name, i == 0)
		c.agents[name] = api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: name}))
	}
	c.RegistrySecret(v1alpha1.Namespace, c.a.Upstream(pathA))
	return c
}

// start runs the controller and the honest agents until the test ends.
func (c *cluster) start() {
	c.t.Helper()
	cfg := controller.Config{
		REST:   c.api.As(c.t, apiserver.Process{ServiceAccount: "registry-controller", Node: "master"}),
		Config: component.Config{Image: ":v1", AgentPort: 5001}, PlatformSelector: "heritage=deckhouse", ClusterDomain: "cluster.local",
		Settings: switchover.DefaultSettings(), Rotations: c.rotations, Stores: stores.DefaultConfig(), MetricsAddress: "0", HealthAddress: "0",
	}
	if c.selector != nil {
		cfg.PlatformSelector = *c.selector
	}
	if cfg.ProxyDial = c.proxy; c.proxy != "" {
		cfg.Settings.ProxyIdle = 0
	}
	installation.Background(c.t, func(ctx context.Context) error { return controller.Run(ctx, cfg, c.Log()) })
	c.StartAgents(func(node string) client.Client {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.liars[node] {
			return nil
		}
		return c.agents[node]
	})
}

// says waits until a condition that is not True has a text in its message.
func (c *cluster) says(kind, text string) installation.Conditions {
	c.t.Helper()
	return c.Until(kind+" says "+text, func(all installation.Conditions) bool {
		return !all.Done(kind) && strings.Contains(all[kind].Message, text)
	})
}
