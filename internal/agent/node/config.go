package node

import (
	"flag"
	"time"

	"k8s.io/client-go/rest"

	"github.com/d8-registry/registry/internal/containerd"
)

// Config is what the half that touches the node needs.
type Config struct {
	// Listen is the serving half's address; StateDir the folder shared with it.
	Listen, StateDir string
	// Kube reaches the API server. It is used for the own RegistryNode only.
	Kube *rest.Config
	// NodeName is the Node's name, and the RegistryNode's.
	NodeName string
	// Socket is containerd's.
	Socket string
	// HostsDir overrides the directory that containerd's configuration names.
	HostsDir string
	// SourceDir is where users and scripts write host directories.
	SourceDir string
	// BootID overrides the kernel's; simulated nodes share a kernel.
	BootID string
	// ProofInterval is how often what was proved is proved again.
	ProofInterval time.Duration
	// Jitter is how long at most a node waits before it asks a new target, so
	// that not all nodes ask at once.
	Jitter time.Duration
	// Version is that of this program.
	Version string
}

// Defaults of a real node.
const (
	DefaultSocket        = "/run/containerd/containerd.sock"
	DefaultProofInterval = 5 * time.Minute
	kernelBootID         = "/proc/sys/kernel/random/boot_id"
)

// RegisterFlags adds the flags of this half.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Socket, "containerd-socket", DefaultSocket, "containerd's `socket`, the one that the kubelet uses")
	fs.StringVar(&c.HostsDir, "hosts-dir", "", "`directory` in which containerd looks for hosts; found out from containerd by default")
	fs.StringVar(&c.SourceDir, "source-dir", containerd.DefaultSource, "`directory` in which users and scripts write hosts")
	fs.StringVar(&c.BootID, "boot-id", "", "boot `id` to report instead of the kernel's")
	fs.DurationVar(&c.ProofInterval, "proof-interval", DefaultProofInterval, "how often what was proved is proved again")
	fs.DurationVar(&c.Jitter, "jitter", 0, "longest random wait before a new registry is asked whether it is there")
}
