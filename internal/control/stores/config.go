package stores

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/d8-registry/registry/internal/pod"
)

// Config is how stores are run, when there are any.
type Config struct {
	// Port is where they listen, on a node's own address.
	Port int
	// Path is the folder of a node that they keep things in.
	Path string
	// Quota and Floor are how many bytes they keep at most, and leave free on the disk; 0 is
	// by the size of the disk.
	Quota, Floor int64
}

// DefaultConfig is that of a chart without values.
func DefaultConfig() Config {
	return Config{Port: 5001, Path: "/opt/deckhouse/registry"}
}

// RegisterFlags binds it to command line flags and sets the defaults.
func (s *Config) RegisterFlags(flags *flag.FlagSet) {
	*s = DefaultConfig()
	flags.IntVar(&s.Port, "store-port", s.Port, "port of the stores on the addresses of their nodes")
	flags.StringVar(&s.Path, "store-path", s.Path, "folder of a node in which its store keeps things; it is given to the user of the store")
	flags.Var((*quantity)(&s.Quota), "store-quota", `how much a store keeps at most, such as 200Gi; "0": by the size of the disk`)
	flags.Var((*quantity)(&s.Floor), "store-floor", `how much of the disk a store leaves free, such as 20Gi; "0": by the size of the disk`)
}

// folder is what --store-path may be: the node makes it an argument, in which a kubelet reads
// more than a path. Folders of the root itself belong to others.
var folder = regexp.MustCompile(`^(/[A-Za-z0-9._-]+){2,}$`)

// othersFolders are those whose owner must not become a store, nor that of what is above them.
func othersFolders() []string {
	return []string{
		"/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/usr", "/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet", "/var/lib/registry-agent", "/var/run",
	}
}

// isBelow reports whether a path is another or below it.
func isBelow(path, other string) bool { return strings.HasPrefix(path+"/", other+"/") }

// Validate checks what the node would refuse later, or would take from others.
func (s *Config) Validate() error {
	isOthers := func(other string) bool { return isBelow(s.Path, other) || isBelow(other, s.Path) }
	segments := strings.Split(s.Path, "/")
	switch at := slices.IndexFunc(othersFolders(), isOthers); {
	case s.Port < 1024 || s.Port > 65535:
		return fmt.Errorf("--store-port is %d, and must be from 1024 to 65535: who listens there is not root", s.Port)
	case s.Port == pod.StoreHealth:
		return fmt.Errorf("--store-port is %d, where the health of a store is asked for: take another one", s.Port)
	case !folder.MatchString(s.Path) || slices.Contains(segments, ".") || slices.Contains(segments, ".."):
		return fmt.Errorf("--store-path is %q, and must be an absolute path of at least two names, of letters, digits, '.', '_' and '-', such as %s", s.Path, DefaultConfig().Path)
	case at >= 0:
		return fmt.Errorf("--store-path is %q, and %s belongs to others: take a folder such as %s", s.Path, othersFolders()[at], DefaultConfig().Path)
	case s.Quota < 0 || s.Floor < 0:
		return fmt.Errorf("--store-quota is %d and --store-floor %d, and neither may be below 0", s.Quota, s.Floor)
	}
	return nil
}

// quantity is a flag in bytes.
type quantity int64

func (s *quantity) String() string { return strconv.FormatInt(int64(*s), 10) }

func (s *quantity) Set(value string) error {
	q, err := resource.ParseQuantity(value)
	*s = quantity(q.Value())
	return err //nolint:wrapcheck // the flag is named by who reads flags
}
