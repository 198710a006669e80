package switchover

import (
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// IsSilent reports whether a node's agent has not been heard for a while. One that has no
// heartbeat is not silent.
func (n Node) IsSilent(now time.Time) bool {
	return !n.Heard.IsZero() && now.Sub(n.Heard) > names.SilentAfter
}

// silence says that a node's agent is silent; empty if it is not.
func (e *evaluation) silence(n Node) string {
	if !n.IsSilent(e.seen.Now) {
		return ""
	}
	return "agent silent since " + n.Heard.UTC().Format(time.RFC3339)
}
