package switchover

import (
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// silence says that a node's agent has not been heard for a while; empty if it has, or
// if it has no heartbeat.
func (e *evaluation) silence(n Node) string {
	if n.Heard.IsZero() || e.seen.Now.Sub(n.Heard) <= names.SilentAfter {
		return ""
	}
	return "agent silent since " + n.Heard.UTC().Format(time.RFC3339)
}
