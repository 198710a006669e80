//go:build brokenprotocol

package switchover

import (
	"fmt"
	"slices"
	"strings"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// The kinds of broken protocols.
const (
	BrokenOrder      = "order"       // the platform is re-pointed before nodes know the new name
	BrokenFinalEarly = "final-early" // the old registry goes before the platform has moved, whatever still uses it
	// BrokenCheck believes of every registry below path "unchecked" that it has all images.
	// It loses no pulls: it shows that the image check is not the only gate.
	BrokenCheck = "check"
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
		case BrokenCheck:
			row.plan = unchecked(row.plan)
		default:
			return Protocol{}, fmt.Errorf("unknown kind of broken protocol %q: expected %q, %q or %q", kind, BrokenOrder, BrokenFinalEarly, BrokenCheck)
		}
		p.modes[mode] = row
	}
	if kind == BrokenFinalEarly {
		p.rules.mayShrink = func(*evaluation) verdict { return done("") }
		p.rules.keep = func(e *evaluation) []layout.Name { return e.ownNames(e.s.Target) }
	}
	return p, nil
}

// unchecked is a plan whose image checks find everything.
func unchecked(plan []step) []step {
	plan = slices.Clone(plan)
	for i, s := range plan {
		plan[i].do = func(e *evaluation) verdict {
			if strings.HasPrefix(e.s.Target.Upstream.Path, "unchecked") {
				request := e.checkRequest()
				report := CheckReport{Fingerprint: request.Fingerprint(), Total: len(request.Images), Done: len(request.Images), At: e.seen.Now}
				e.seen.Check = report
			}
			return s.do(e)
		}
	}
	return plan
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
