package switchover

import (
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Mode is what stands behind the platform's image address.
type Mode string

// The modes that exist; plans.go says what each of them is.
const (
	Direct    Mode = "Direct"
	ModeProxy Mode = layout.Proxy
	Unmanaged Mode = layout.Unmanaged
)

// knows reports whether there is such a mode. What is unknown is refused by
// name: its plan, and what it needs of the cluster, are not known either.
func (p Protocol) knows(mode Mode) bool {
	_, ok := p.modes[mode]
	return ok
}

// hasFixedAddress reports whether platform images are named by the fixed
// address in a mode. Without a mode they are.
func (p Protocol) hasFixedAddress(mode Mode) bool {
	row, ok := p.modes[mode]
	return !ok || row.fixedAddress
}

// namedInSecret reports whether the mode's registry is named in Secret
// deckhouse-registry, which is then the user's.
func (p Protocol) namedInSecret(mode Mode) bool { return p.modes[mode].inSecret }

// nameOf is what platform images start with once a target is reached.
func (p Protocol) nameOf(t Target) layout.Name {
	if p.hasFixedAddress(t.Mode) {
		return layout.Fixed()
	}
	return layout.NameOf(t.Upstream)
}

// ownNames are the names that a target needs, whatever else is in use.
func (p Protocol) ownNames(t Target) []layout.Name {
	return withNames(nil, p.nameOf(t), layout.NameOf(t.Upstream))
}

// Target is a mode and the registry behind it: what Ready is about.
type Target struct {
	Mode     Mode              `json:"mode"`
	Upstream upstream.Upstream `json:"upstream"`
}

// installed is what an installation starts as.
func installed(u upstream.Upstream) Target { return Target{Mode: Unmanaged, Upstream: u} }

// IsZero reports whether nothing is known yet.
func (t Target) IsZero() bool { return t == Target{} }

// HasFixedAddress reports whether platform images are named by the fixed
// address, and served to whoever knows one of the module's own users.
func (t Target) HasFixedAddress() bool { return Standard().hasFixedAddress(t.Mode) }

// Name is what platform images start with once the target is reached: the
// fixed address, or in Unmanaged the registry's own.
func (t Target) Name() layout.Name { return Standard().nameOf(t) }
