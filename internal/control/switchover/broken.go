//go:build brokenprotocol

package switchover

import (
	"fmt"
	"slices"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// The kinds of broken protocols.
const (
	BrokenOrder      = "order"       // the platform is re-pointed before nodes know the new name
	BrokenFinalEarly = "final-early" // the old registry goes before the platform has moved, whatever still uses it
)

// Broken is a protocol that loses pulls. No program that ships has it: it is for
// negative controls. Zero failed pulls prove something only if these lose some.
func Broken(kind string) (Protocol, error) {
	p := Standard()
	for mode, row := range p.modes {
		switch kind {
		case BrokenOrder:
			row.plan = moved(row.plan, names.ConditionSwitch, names.ConditionTransition)
		case BrokenFinalEarly:
			row.plan = moved(row.plan, names.ConditionFinal, names.ConditionSwitch)
		default:
			return Protocol{}, fmt.Errorf("unknown kind of broken protocol %q: expected %q or %q", kind, BrokenOrder, BrokenFinalEarly)
		}
		p.modes[mode] = row
	}
	if kind == BrokenFinalEarly {
		p.rules.mayShrink = func(*evaluation) verdict { return done("") }
		p.rules.keep = func(e *evaluation) []layout.Name { return e.ownNames(e.s.Target) }
	}
	return p, nil
}

// moved puts a step right before another.
func moved(plan []step, what, before string) []step {
	at := func(plan []step, name string) int {
		return slices.IndexFunc(plan, func(s step) bool { return s.name == name })
	}
	plan = slices.Clone(plan)
	i := at(plan, what)
	s := plan[i]
	plan = slices.Delete(plan, i, i+1)
	return slices.Insert(plan, at(plan, before), s)
}
