package controller

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/platform"
	"github.com/d8-registry/registry/internal/control/precheck"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/stores"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/inbound"
)

// Config is the configuration of one controller process.
type Config struct {
	// Kubeconfig is the path of a kubeconfig; empty means the pod's own
	// ServiceAccount.
	Kubeconfig string
	// REST replaces Kubeconfig when set.
	REST *rest.Config
	// Config is what our own workloads depend on.
	component.Config
	// ClusterDomain completes the second name on the proxy's certificate.
	ClusterDomain string
	// PlatformSelector says by labels which namespaces are the platform's,
	// PlatformNamespaces names more of them, with commas between.
	PlatformSelector, PlatformNamespaces string
	// PlatformWorkloads is cluster.Selection.Workloads.
	PlatformWorkloads bool
	// Settings are times and limits of the protocol.
	Settings switchover.Settings
	// Protocol is the switch's; nil means switchover.Standard.
	Protocol *switchover.Protocol
	// LeaveBroken is that of platform.Mover; 0 means one minute.
	LeaveBroken time.Duration
	// Rotations are the settings of rotations.
	Rotations state.Rotations
	// Stores is how stores of nodes are run.
	Stores stores.Config
	// LeaderElect makes the controller wait for the lease.
	LeaderElect bool
	// MetricsAddress and HealthAddress are addresses to listen on; "0" means none.
	MetricsAddress, HealthAddress string
	// ProfilesAddress is where pprof listens; "0" or "" means nowhere. What it shows is
	// for those who look for memory and processor time: it has names of objects in it.
	ProfilesAddress string
	// CredentialProviders is a file, and CredentialPlugins the folder of the programs that
	// it names; see package credprovider. CredentialsSoonest is how soon one is asked again
	// at most; 0 means credprovider.DefaultSoonest.
	CredentialProviders, CredentialPlugins string
	CredentialsSoonest                     time.Duration
	// Transport reaches upstreams for the image check; nil means as agents do.
	Transport precheck.Transport
	// Now is the controller's clock; nil means the real one.
	Now func() time.Time

	// StoresAt are the addresses of stores by endpoint, in a test's cluster without a network.
	StoresAt map[string]string
}

// RegisterFlags binds the configuration to command line flags and sets the
// defaults.
func (c *Config) RegisterFlags(flags *flag.FlagSet) {
	c.Settings, c.Rotations = switchover.DefaultSettings(), state.DefaultRotations()
	c.Stores.RegisterFlags(flags)
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "path of a kubeconfig; empty: the pod's ServiceAccount")
	flags.StringVar(&c.Image, "image", "", `the module's own image below the registry's base: ":v1" or "registry@sha256:..."`)
	flags.StringVar(&c.ClusterDomain, "cluster-domain", "cluster.local", "the cluster's DNS domain")
	flags.IntVar(&c.AgentPort, "agent-port", 5001, "port of the agents on loopback")
	flags.StringVar(&c.PlatformSelector, "platform-selector", "heritage=deckhouse", "label selector of the platform's namespaces; empty: none")
	flags.StringVar(&c.PlatformNamespaces, "platform-namespaces", "", "more namespaces that are the platform's, by name, with commas between; d8-system always is one")
	flags.BoolVar(&c.PlatformWorkloads, "platform-workloads", false, "workloads with the labels of --platform-selector are the platform's in any namespace: whoever may make a Deployment then joins the rollout")
	flags.DurationVar(&c.Settings.NotReadyFor, "not-ready-for", c.Settings.NotReadyFor, "how long a node is NotReady before a switch goes on without it")
	flags.DurationVar(&c.Settings.ProxyIdle, "proxy-idle", c.Settings.ProxyIdle, "how long the in-cluster proxy is unused before it is stopped")
	flags.DurationVar(&c.Settings.ProxyIdleMax, "proxy-idle-max", c.Settings.ProxyIdleMax, "how long its stop is put off at most")
	flags.DurationVar(&c.Rotations.Idle, "rotation-idle", c.Rotations.Idle, "how long an old password of the in-cluster proxy is unused before it is refused, and how long clients have to read a new CA")
	flags.DurationVar(&c.Settings.RecheckNames, "recheck-names", c.Settings.RecheckNames, "how often names that are still referenced are looked at again")
	flags.IntVar(&c.Settings.RestartsAtOnce, "restarts-at-once", c.Settings.RestartsAtOnce, "how many nodes may restart containerd at a time; of the control plane never more than one")
	flags.IntVar(&c.AgentsAtOnce, "agents-at-once", 0, "how many agents an upgrade of the module replaces at a time, of the control plane never more than one; 0: a tenth of the nodes, at least one")
	flags.BoolVar(&c.Settings.NoTaint, "no-taint", false, "do not taint nodes that have not converged")
	flags.DurationVar(&c.LeaveBroken, "leave-broken-after", platform.BrokenBefore, "how long the rollout of a workload that was broken before may go no further until it is left where it is")
	flags.BoolVar(&c.LeaderElect, "leader-elect", true, "wait for the lease before doing anything")
	flags.StringVar(&c.MetricsAddress, "metrics-address", ":4280", `address of metrics; "0": none`)
	flags.StringVar(&c.HealthAddress, "health-address", ":4281", `address of health probes; "0": none`)
	flags.StringVar(&c.ProfilesAddress, "pprof-address", "0", inbound.ProfilesFlag)
	flags.StringVar(&c.ProxyDial, "proxy-dial", "", "host:port that replaces the Service's address for our own proof")
	flags.StringVar(&c.Scripts, "scripts", "on", `whether agents run NodeGroupConfigurations on their nodes: "on" or "off"`)
	flags.StringVar(&c.CredentialProviders, "image-credential-provider-config", "", "file of kind CredentialProviderConfig, as the kubelet has: whose credentials registries get that settings name none for; empty: nobody's")
	flags.StringVar(&c.CredentialPlugins, "image-credential-provider-bin-dir", "", "folder with the plugins that it names")
	flags.Var((*list)(&c.AgentArgs), "agent-arg", "argument to add to the agents' containers; repeatable")
	flags.Var((*list)(&c.ProxyArgs), "proxy-arg", "argument to add to the proxy's container; repeatable")
}

// validate checks the configuration, and says what is the platform's.
func (c *Config) validate() (cluster.Selection, error) {
	whose, err := selection(c.PlatformSelector, c.PlatformNamespaces)
	whose.Workloads = c.PlatformWorkloads
	switch {
	case c.Image == "":
		return whose, errors.New("--image must say which image is ours")
	case c.Settings.RestartsAtOnce < 1:
		return whose, fmt.Errorf("--restarts-at-once is %d, and must be at least 1", c.Settings.RestartsAtOnce)
	case c.AgentsAtOnce < 0:
		return whose, fmt.Errorf("--agents-at-once is %d, and must be 0 or more", c.AgentsAtOnce)
	case c.AgentPort < 1024 || c.AgentPort > 65535:
		return whose, fmt.Errorf("--agent-port is %d, and must be from 1024 to 65535: who listens there is not root", c.AgentPort)
	case c.Scripts != "" && c.Scripts != "on" && c.Scripts != "off":
		return whose, fmt.Errorf(`--scripts is %q, and must be "on" or "off"`, c.Scripts)
	case err != nil:
		return whose, err //nolint:wrapcheck // it names the flag
	}
	return whose, c.Stores.Validate() //nolint:wrapcheck // it names the flag
}

// selection reads the values of --platform-selector and --platform-namespaces.
// An empty selector selects nothing, as everybody expects, and not everything, as
// Kubernetes does.
func selection(selector, namespaces string) (cluster.Selection, error) {
	var s cluster.Selection
	var err error
	if s.Platform, err = labels.Parse(selector); err != nil {
		return s, fmt.Errorf("--platform-selector %q (value platformSelector) is no label selector such as heritage=deckhouse or \"team in (a, b)\": %w", selector, err)
	}
	if s.Platform.Empty() {
		s.Platform = labels.Nothing()
	}
	if namespaces == "" {
		return s, nil
	}
	s.Namespaces = strings.Split(namespaces, ",")
	for _, name := range s.Namespaces {
		if wrong := validation.IsDNS1123Label(name); len(wrong) > 0 {
			return s, fmt.Errorf("--platform-namespaces (value platformNamespaces): %q is no name of a namespace, and must be a whole one, without wildcards: %w", name, errors.New(wrong[0]))
		}
	}
	return s, nil
}

// list is a repeatable flag.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}
