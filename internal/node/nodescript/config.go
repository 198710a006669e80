package nodescript

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"time"

	"k8s.io/client-go/dynamic"
)

// Defaults of a real node.
const (
	DefaultStateDir = "/var/lib/registry-agent/scripts"
	DefaultRetry    = 10 * time.Second
	DefaultAgain    = 4 * time.Hour
	DefaultTimeout  = 30 * time.Minute
)

// Config is what running scripts on one node needs.
type Config struct {
	// Client reaches the API server. NodeGroupConfigurations come from there, and
	// failures become Events of the Node.
	Client dynamic.Interface
	// NodeName is the Node's name, BootID that of its present boot.
	NodeName, BootID string
	// Host is where scripts run.
	Host Host
	// StateDir is a directory of the host that only root may read: scripts, flags,
	// and what was done. DefaultStateDir if empty. It must survive reboots.
	StateDir string
	// Retry is the pause before a failed script is tried again, Again the time after
	// which all of them run although nothing changed, and Timeout is how long one
	// may take. Zero means the default.
	Retry, Again, Timeout time.Duration
	// Changed is called whenever Status or Warnings have changed. It must not block.
	Changed func()
}

// safePath is a path that means the same in a shell, quoted or not.
var safePath = regexp.MustCompile(`^/[A-Za-z0-9._/-]+$`)

// withDefaults is the configuration as it is used, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.NodeName == "" || c.BootID == "" {
		return c, errors.New("scripts: the node's name and boot id must be known")
	}
	for value, standard := range map[*time.Duration]time.Duration{&c.Retry: DefaultRetry, &c.Again: DefaultAgain, &c.Timeout: DefaultTimeout} {
		if *value <= 0 {
			*value = standard
		}
	}
	if c.StateDir == "" {
		c.StateDir = DefaultStateDir
	}
	if !safePath.MatchString(c.StateDir) || path.Clean(c.StateDir) != c.StateDir {
		return c, fmt.Errorf("scripts: state folder %q is not an absolute path of letters, digits, '.', '_', '-' and '/'", c.StateDir)
	}
	if c.Host.Root == "" {
		c.Host.Root = "/"
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	return c, nil
}
