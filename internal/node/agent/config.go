package agent

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/nodescript"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

// Config is what the half that touches the node needs.
type Config struct {
	// Listen is the serving half's address, StateDir the directory shared with it.
	Listen, StateDir string
	// ServeUser is the number of the user and group that the serving half runs as; 0 for
	// those of this program.
	ServeUser int
	// Kube reaches the API server. It is used for the own RegistryNode only.
	Kube *rest.Config
	// NodeName is the Node's name, and the RegistryNode's.
	NodeName string
	// Socket is containerd's.
	Socket string
	// HostRoot is the host's file system as this program reaches it; found out if
	// empty.
	HostRoot string
	// ConfigFile overrides the main configuration file on containerd's command
	// line; a path as containerd sees it.
	ConfigFile string
	// HostsDir overrides the directory that containerd's configuration names.
	HostsDir string
	// SourceDir is where users and scripts write host directories.
	SourceDir string
	// BootID overrides the kernel's: simulated nodes share one kernel.
	BootID string
	// ProofInterval is how often what was proved is proved again.
	ProofInterval time.Duration
	// Jitter is the longest time that a node waits before it asks a new target, so
	// that not all nodes ask at once.
	Jitter time.Duration
	// Scripts runs the NodeGroupConfigurations that concern this node.
	Scripts bool
	// ScriptsDir is the directory on the host in which scripts keep their state.
	ScriptsDir string
	// RestartCommand is a program of the host that restarts containerd where
	// there is no systemd.
	RestartCommand string
	// Service restarts containerd; the host's systemd by default.
	Service reconfigure.Service
	// StaticPods finds the folder in which the kubelet looks for static pods, as the host
	// sees it; by default it is found out. It goes into no other process.
	StaticPods func() (string, error) `json:"-"`
	// Limits are the times that a restart of containerd may take.
	Limits reconfigure.Limits
	// AliveFile is stamped while this half makes progress; empty for none.
	AliveFile string
	// PodUID is that of the Pod that this program runs in; empty if it is in none.
	PodUID string
	// Version is that of this program.
	Version string
}

// Defaults of a real node.
const (
	DefaultSocket        = "/run/containerd/containerd.sock"
	DefaultProofInterval = 5 * time.Minute
)

// RegisterFlags adds the flags of this half.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Socket, "containerd-socket", DefaultSocket, "containerd's `socket`, the one that the kubelet uses")
	fs.StringVar(&c.HostRoot, "host-root", "", "`directory` in which this program finds the host's file system; found out by default")
	fs.StringVar(&c.ConfigFile, "containerd-config", "", "containerd's main configuration `file`; that of its command line by default")
	fs.StringVar(&c.HostsDir, "hosts-dir", "", "`directory` in which containerd looks for hosts; found out from containerd by default")
	fs.StringVar(&c.SourceDir, "source-dir", containerd.DefaultSource, "`directory` in which users and scripts write hosts")
	fs.StringVar(&c.BootID, "boot-id", "", "boot `id` to report instead of the kernel's")
	c.Scripts = true
	fs.Func("scripts", "`on or off`: whether NodeGroupConfigurations are run; on by default", func(value string) error {
		if value != "on" && value != "off" {
			return errors.New("must be on or off")
		}
		c.Scripts = value == "on"
		return nil
	})
	fs.StringVar(&c.ScriptsDir, "scripts-dir", nodescript.DefaultStateDir, "`folder` on the host in which NodeGroupConfigurations keep their state")
	fs.StringVar(&c.RestartCommand, "restart-command", "", "`program` of the host that restarts containerd and waits for it, without arguments; systemd by default")
	fs.Func("static-pods", "`folder` of the host in which the kubelet looks for static pods; found out from the kubelet by default", func(value string) error {
		if !path.IsAbs(value) {
			return errors.New("must be an absolute path on the host")
		}
		c.StaticPods = func() (string, error) { return value, nil }
		return nil
	})
	fs.StringVar(&c.AliveFile, "alive-file", "", "`file` that says that the half that touches the node makes progress; none by default")
	fs.DurationVar(&c.ProofInterval, "proof-interval", DefaultProofInterval, "how often what was proved is proved again")
	fs.DurationVar(&c.Jitter, "jitter", 0, "longest random wait before a new registry is asked whether it is there")
}

// kernelBootID is where the kernel tells one boot from another.
const kernelBootID = "/proc/sys/kernel/random/boot_id"

// withDefaults is the configuration as it is used, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.NodeName == "" {
		return c, errors.New("the node's name is not set")
	}
	if c.ProofInterval <= 0 {
		c.ProofInterval = DefaultProofInterval
	}
	if c.BootID == "" {
		id, err := os.ReadFile(kernelBootID)
		if err != nil {
			return c, fmt.Errorf("read the boot id: %w", err)
		}
		c.BootID = strings.TrimSpace(string(id))
	}
	return c, nil
}
