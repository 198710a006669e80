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

// Component is one of the module's own workloads that the controller makes. To add
// one, add it to List: it is made, moved, upgraded, waited for and removed by that.
// What only agents and the in-cluster proxy need is in upgrade.go and proof.go.
type Component struct {
	// Kind is "Deployment" or "DaemonSet".
	Kind string
	// Name is the name of the workload in d8-system, and the value of its pods'
	// label app.
	Name string
	// Wanted reports whether it should exist.
	Wanted func(state.Document) bool
	// First is for a component that a step waits for before the platform moves: it
	// is made, and upgraded, in that step. Others move after the platform.
	First bool
	// Template is its pod template with this image, in a cluster with this number
	// of nodes. ServiceAccount and ports are in it.
	Template func(image string, nodes int) corev1.PodTemplateSpec
	// Replicas is how many pods a Deployment should have; nil: one, and nobody waits
	// for its rollout.
	Replicas func(switchover.Observed) int
	// Secret is what its pods read; zero when they read none.
	Secret Secret
	// Service is how others reach it; zero when they do not.
	Service Service
}

// Secret is a Secret of d8-system that a component's pods read. It is not written
// before a layout is published.
type Secret struct {
	Name string
	Type corev1.SecretType
	Data func(*state.View) (map[string][]byte, error)
}

// Service is a ClusterIP in front of a component. Its target is the template's
// port PortName.
type Service struct {
	Name, PortName string
	Port           int32
	// Selector is who is behind it, while anybody is; nil for the component's own pods.
	Selector func(state.Document) map[string]string
}

// selector is who should be behind the Service of a component; nil when there should be none.
func (c Component) selector(doc state.Document) map[string]string {
	switch {
	case c.Service.Name == "":
		return nil
	case c.Service.Selector != nil:
		return c.Service.Selector(doc)
	case c.Wanted(doc):
		return map[string]string{v1alpha1.LabelApp: c.Name}
	}
	return nil
}

// Config is the configuration that own workloads depend on.
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
	// ProxyDial replaces the address of Service registry when the controller
	// checks the proxy from outside the cluster's network.
	ProxyDial string
}

// List is the module's own workloads, in the order in which they move. The
// controller is not in it: the chart makes it, see chart.go.
func List(cfg Config) []Component {
	return []Component{agent(cfg), inClusterProxy(cfg)}
}

// Names are all own workloads as "Kind/name", with the controller and the stores.
func Names(list []Component) []string {
	names := []string{"Deployment/" + v1alpha1.DeploymentController}
	for _, name := range v1alpha1.DaemonSetsOfStores() {
		names = append(names, "DaemonSet/"+name)
	}
	for _, c := range list {
		names = append(names, c.Kind+"/"+c.Name)
	}
	return names
}

// Check asks a registry for images, and returns when it has the answers.
type Check func(context.Context, *state.View, switchover.CheckRequest) switchover.CheckReport

// Keeper makes, moves and upgrades the module's own workloads.
type Keeper struct {
	cluster *cluster.Client
	cfg     Config
	list    []Component
	check   Check

	// What only this process knows. After a restart it finds out again.
	image  ownImage
	told   map[string]bool   // pods that an Event was made for, by UID
	uses   map[types.UID]use // of the proxy's pods
	proved int64             // the last generation with a successful pull through the proxy
}

// NewKeeper makes a Keeper for the components of a list. Check asks registries for
// the module's own image.
func NewKeeper(c *cluster.Client, cfg Config, list []Component, check Check) *Keeper {
	return &Keeper{cluster: c, cfg: cfg, list: list, check: check}
}
