// Package pullsecret owns what images are pulled with: Secret deckhouse-registry,
// which platform components read, its copies in the platform's namespaces, and
// the pull secret of the module's own workloads.
//
// Whoever asks who writes deckhouse-registry starts at (*Keeper).ApplyRegistry.
package pullsecret

import (
	"github.com/d8-registry/registry/internal/control/cluster"
)

// Keeper writes pull secrets. It remembers nothing.
type Keeper struct{ cluster *cluster.Client }

// NewKeeper makes one for this cluster.
func NewKeeper(c *cluster.Client) *Keeper { return &Keeper{c} }
