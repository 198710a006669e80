// Package pullsecret writes the Secrets that images are pulled with: Secret
// deckhouse-registry, which platform components read, its copies in the platform's
// namespaces, and Secret registry-bootstrap for the module's own workloads.
//
// deckhouse-registry is written in two places: (*Keeper).Apply writes its key
// .dockerconfigjson, before templates change, and (*Keeper).ApplyRegistry all its
// fields. Start there. Others write it too: the chart makes it if it is missing; in
// Unmanaged, outside a switch, it is the user's; the uninstallation deletes it.
package pullsecret

import "github.com/d8-registry/registry/internal/control/cluster"

// Keeper writes pull secrets. It remembers nothing.
type Keeper struct{ cluster *cluster.Client }

// NewKeeper makes a Keeper for this cluster.
func NewKeeper(c *cluster.Client) *Keeper { return &Keeper{c} }
