package gateway

import (
	"cmp"
	"flag"
	"os"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/inbound"
)

// Config is what the process is started with.
type Config struct {
	// Kubeconfig is a path; empty means the Pod's own ServiceAccount.
	Kubeconfig string
	// Listen is for clients, with TLS. Health is for /healthz, /readyz and
	// /metrics, without.
	Listen, Health string
	// Namespace and Pod are where the process reports.
	Namespace, Pod string
	// Secret is the one that is read.
	Secret string
	// DrainDelay is how long it goes on as before when told to stop: until nobody is
	// sent here any more, and, if it was the only one, until its successor serves.
	// Drain is how long requests in flight then have.
	DrainDelay, Drain time.Duration
	// ProfilesAddress is where pprof listens; "0" or "" means nowhere.
	ProfilesAddress string
	// Verbose logs every pull, not only those that failed.
	Verbose bool
	// ReportEvery is how often the last use is reported, at most.
	ReportEvery time.Duration

	// listening, if set, is called with the addresses listened on: tests
	// listen on port 0.
	listening func(clients, health string)
}

// RegisterFlags binds the configuration to flags. Defaults of namespace and Pod
// come from the environment, as the downward API gives them.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Kubeconfig, "kubeconfig", "", "path of a kubeconfig; empty: in-cluster configuration")
	fs.StringVar(&c.Listen, "listen", ":5001", "address for clients, with TLS")
	fs.StringVar(&c.Health, "health-listen", ":5002", "address for /healthz, /readyz and /metrics, without TLS")
	fs.StringVar(&c.Namespace, "namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), v1alpha1.Namespace), "namespace of the Secret and of our Pod (default $POD_NAMESPACE)")
	fs.StringVar(&c.Pod, "pod", os.Getenv("POD_NAME"), "name of our Pod (default $POD_NAME)")
	fs.StringVar(&c.Secret, "secret", v1alpha1.SecretProxy, "name of the Secret that is read")
	fs.DurationVar(&c.DrainDelay, "drain-delay", 20*time.Second, "how long to serve on after being told to stop")
	fs.DurationVar(&c.Drain, "drain", 25*time.Second, "how long requests in flight have after that")
	fs.StringVar(&c.ProfilesAddress, "pprof-address", "0", inbound.ProfilesFlag)
	fs.BoolVar(&c.Verbose, "verbose", false, "log every pull, not only those that failed")
	fs.DurationVar(&c.ReportEvery, "report-every", time.Minute, "how often the last use is reported at most")
}
