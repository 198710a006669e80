// Package nodes is about Node and RegistryNode: what is seen of each node, what
// its agent is told, and what users see on the Node.
//
// It does not decide which nodes count, see switchover. Start at
// (*Keeper).Observe, then (*Keeper).ApplyRegistryNodes.
package nodes

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// Keeper looks after the objects of nodes. It remembers since when nodes are
// NotReady; after a restart that is counted anew.
type Keeper struct {
	cluster  *cluster.Client
	protocol switchover.Protocol
	notReady map[types.UID]time.Time
}

// NewKeeper makes one. Protocol says which nodes should be tainted.
func NewKeeper(c *cluster.Client, protocol switchover.Protocol) *Keeper {
	return &Keeper{cluster: c, protocol: protocol, notReady: map[types.UID]time.Time{}}
}
