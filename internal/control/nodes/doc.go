// Package nodes is about Node and RegistryNode. It reads what agents report, tells
// agents what to do, and shows users on the Node how it is.
//
// Package switchover decides which nodes a switch waits for. Start at
// (*Keeper).Observe, then (*Keeper).ApplyRegistryNodes.
package nodes

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// Keeper reads and writes Nodes and RegistryNodes. It remembers since when nodes
// are NotReady, and which have come; after a restart of this process that begins
// again.
type Keeper struct {
	cluster  *cluster.Client
	protocol switchover.Protocol
	notReady map[types.UID]time.Time
	// came are the nodes of the last look, with the time when they came. The time is
	// zero for those that were there at the first look, or before a layout was proved.
	came map[types.UID]time.Time

	heartbeats heartbeats
}

// NewKeeper makes a Keeper. Protocol says which nodes should be tainted. Agents are
// heard by the clock of c, which is that of passes.
func NewKeeper(c *cluster.Client, protocol switchover.Protocol) *Keeper {
	return &Keeper{cluster: c, protocol: protocol, notReady: map[types.UID]time.Time{}, heartbeats: heartbeats{now: c.Now, heard: map[string]time.Time{}}}
}
