package switchover

import (
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Mode is what stands behind the platform's image address.
type Mode string

// The modes that exist. Proxy and Local will be further rows of plans.
const (
	Direct    Mode = "Direct"
	Unmanaged Mode = "Unmanaged"
)

// Target is a mode and the registry behind it: what Ready is about.
type Target struct {
	Mode     Mode              `json:"mode"`
	Upstream upstream.Upstream `json:"upstream"`
}

// IsZero reports whether nothing is known yet.
func (t Target) IsZero() bool { return t == Target{} }

// Name is what platform images start with once the target is reached: the
// fixed address, or in Unmanaged the registry's own.
func (t Target) Name() layout.Name {
	if t.Mode == Unmanaged {
		return layout.NameOf(t.Upstream)
	}
	return layout.Fixed()
}

// Spec is what the user asks for in ModuleConfig deckhouse, parsed.
//
// With ModuleConfig, its section or its CRD gone, or with settings that are
// wrong, the last target holds and Ready says so.
type Spec struct {
	// Mode is empty when there is nothing that can be followed; Problem then
	// says why, as a sentence.
	Mode Mode
	// Upstream is zero for Unmanaged, which takes the registry of the active
	// target.
	Upstream upstream.Upstream
	// Problem is empty when Mode is set.
	Problem string
}
