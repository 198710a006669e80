package component

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// Component is one of the module's own workloads that the controller makes.
// Another one is another entry in List: it is made, re-pointed, upgraded, waited
// for and removed by what stands here.
type Component struct {
	// Kind is "Deployment" or "DaemonSet".
	Kind string
	// Name is that of the workload in d8-system, and of its pods' label app.
	Name string
	// Wanted reports whether it should be there.
	Wanted func(state.Document) bool
	// First is for what a step waits for before the platform moves: it is made,
	// and upgraded, in that step. Others wait for their turn, after the platform.
	First bool
	// Template is its pod template with this image, in a cluster of so many
	// nodes. It says which ServiceAccount has its rights, and its ports.
	Template func(image string, nodes int) corev1.PodTemplateSpec
	// Replicas is how many pods a Deployment should have.
	Replicas func(switchover.Observed) int
	// Secret is what its pods read; zero for nothing of their own.
	Secret Secret
	// Service is how others reach it; zero for not at all.
	Service Service
}

// Secret is one of d8-system that a component's pods read. It is not written
// while nothing is published.
type Secret struct {
	Name string
	Type corev1.SecretType
	Data func(*state.View) (map[string][]byte, error)
}

// Service is a ClusterIP in front of a component. Its target is the port of
// that name in the template.
type Service struct {
	Name, PortName string
	Port           int32
}

// Config is what of the controller's configuration own workloads depend on.
type Config struct {
	// Image is the module's own image below the registry's base: ":v1" or
	// "registry@sha256:...".
	Image string
	// AgentPort is where agents listen on loopback.
	AgentPort int
	// Scripts is "on" if agents run NodeGroupConfigurations, or "off"; empty is
	// "on".
	Scripts string
	// AgentsAtOnce is how many agents an upgrade replaces at a time, of the
	// control plane never more than one; 0 means a tenth of the nodes.
	AgentsAtOnce int
	// AgentArgs and ProxyArgs are appended to the arguments in our templates.
	AgentArgs, ProxyArgs []string
	// ProxyDial replaces the address of Service registry for the proof, where
	// the controller is not on the cluster's network.
	ProxyDial string
}

// List are the module's own workloads, in the order in which they move. The
// controller itself is not among them: it came with the chart, see chart.go.
func List(cfg Config) []Component {
	return []Component{agent(cfg), inClusterProxy(cfg)}
}

// Names are all own workloads as "Kind/name", the controller among them.
func Names(list []Component) []string {
	names := []string{"Deployment/" + v1alpha1.DeploymentController}
	for _, c := range list {
		names = append(names, c.Kind+"/"+c.Name)
	}
	return names
}

// Check asks a registry for images, here and now.
type Check func(context.Context, *state.View, switchover.CheckRequest) switchover.CheckReport

// Keeper makes, moves and upgrades the module's own workloads.
type Keeper struct {
	cluster *cluster.Client
	cfg     Config
	list    []Component
	check   Check

	// What only this process saw. Nothing depends on remembering it.
	image  ownImage
	told   map[string]bool   // pods that an Event was made for
	uses   map[types.UID]use // of the proxy's pods
	proved int64             // the generation that was pulled through the proxy
}

// NewKeeper makes one that looks after this list.
func NewKeeper(c *cluster.Client, cfg Config, list []Component, check Check) *Keeper {
	return &Keeper{cluster: c, cfg: cfg, list: list, check: check}
}
