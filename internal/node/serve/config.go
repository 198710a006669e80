package serve

import (
	"flag"
	"time"

	"k8s.io/client-go/rest"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/inbound"
)

// Config is what the serving half needs.
type Config struct {
	// Listen is an address of loopback; node and containerd use it as it is.
	Listen string
	// MetricsListen is where /metrics is served, without TLS; nowhere if it is empty.
	// Nothing in it is secret.
	MetricsListen string
	// ProfilesAddress is where pprof listens; "0" or "" means nowhere.
	ProfilesAddress string
	// StateDir is the directory shared with the other half.
	StateDir string
	// Kube reaches the API server. It is only used for the layout.
	Kube *rest.Config
	// Namespace and Secret are where the layout is published.
	Namespace, Secret string
	// Name is which of the stores is asked first: each node begins with its own. Empty is the
	// name of the machine.
	Name string
	// Quiet is the time without a request after which the route of a name that left
	// the layout goes. 0 means DefaultQuiet.
	Quiet time.Duration
	// Renew is how often certificate and token are looked at; 0 means a minute: a clock
	// that was put right must not cost pulls for long.
	Renew time.Duration
	// Promises are those of pulls; the zero value keeps them.
	Promises fetch.Promises
}

// Defaults of a real node.
const (
	DefaultListen   = "127.0.0.1:5001"
	DefaultStateDir = "/var/lib/registry-agent"
	DefaultQuiet    = 30 * time.Second
)

// RegisterFlags adds the flags of this half.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.Namespace, c.Secret = registryv1alpha1.Namespace, registryv1alpha1.SecretAgent
	fs.StringVar(&c.Listen, "listen", DefaultListen, "`address` on loopback on which containerd is served")
	fs.StringVar(&c.ProfilesAddress, "pprof-address", "0", inbound.ProfilesFlag)
	fs.StringVar(&c.MetricsListen, "metrics-listen", "", "`address` for /metrics, without TLS; empty for none")
	fs.StringVar(&c.StateDir, "state-dir", DefaultStateDir, "`folder` of the agent's own state")
	fs.DurationVar(&c.Quiet, "quiet", DefaultQuiet, "how long a removed name must be idle before its route goes")
}
