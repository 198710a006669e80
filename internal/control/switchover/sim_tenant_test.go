package switchover

import (
	"testing"

	"github.com/d8-registry/registry/internal/layout"
)

// tenantComesOrGoes: a tenant names an image that is nowhere, under a name that is
// published, or stops it.
func (s *sim) tenantComesOrGoes() {
	names := s.layout.Names()
	if s.tenant != (layout.Name{}) || len(names) == 0 {
		s.tenant = layout.Name{}
		return
	}
	s.tenant = names[s.rng.IntN(len(names))]
	s.logf("a tenant names %s", s.tenant)
}

// TestATenantThatGatesIsCaught: with a switch that waits for tenants' images there
// is a history that never ends.
func TestATenantThatGatesIsCaught(t *testing.T) {
	t.Parallel()
	expect(t, rule{name: "R25 tenants gate nothing", t: tamper{protocol: product(func(r *rules) {
		r.gates = func(*evaluation, Reference) bool { return true }
	})}}, Standard())
}
