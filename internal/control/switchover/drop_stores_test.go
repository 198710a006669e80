package switchover

import (
	"slices"
	"testing"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// changing gives what a step says to change, in whichever plan the step is.
func changing(step string, change func(*evaluation, verdict) verdict) func(*sim, *Protocol) {
	return func(_ *sim, p *Protocol) {
		for mode, row := range p.modes {
			plan := slices.Clone(row.plan)
			for i, s := range plan {
				if s.name == step {
					plan[i].do = func(e *evaluation) verdict { return change(e, s.do(e)) }
				}
			}
			p.setPlan(mode, plan)
		}
	}
}

// storeRules are those without which stores break what they should speed up.
func storeRules() []rule {
	atOnce := func(*evaluation, verdict) verdict { return done("") }
	dropStores := func(e *evaluation, v verdict) verdict {
		if e.s.StoresRemoved > 0 {
			e.s.Desired.Store, e.s.Desired.StoreLayout = Store{}, layout.Layout{}
		}
		return v
	}
	everybody := func(e *evaluation, v verdict) verdict {
		e.s.Desired.Store.Alone = Agents
		return v
	}
	noProxy := func(e *evaluation, v verdict) verdict {
		if e.modes[e.s.Target.Mode].store && e.seen.Store.Ready == 0 {
			e.s.Desired.Proxy = false
		}
		return v
	}
	targetOnly := func(e *evaluation, l layout.Layout) layout.Layout {
		l = storeLayout(e, l)
		l.Routes = layout.Cross(l.Names(), []upstream.Upstream{e.s.Target.Upstream})
		return l
	}
	return []rule{
		{name: "R31 stores are in front of the registries and not in their place", t: tamper{noFallThrough: true}},
		{name: "R32 stores serve before anything leads to them", t: tamper{protocol: changing(names.ConditionStores, atOnce)}},
		{name: "R33 nodes forget stores before they stop", t: tamper{protocol: changing(names.ConditionCleanupStores, dropStores)}},
		{name: "R34 stores have the union", t: tamper{protocol: product(func(r *rules) { r.stores = targetOnly })}},
		{name: "R35 who has waited for the new registry stands alone behind the Service", t: tamper{protocol: changing(names.ConditionSwitch, everybody)}},
		{name: "R36 the in-cluster proxy goes when stores stand in for it", t: tamper{protocol: changing(names.ConditionFinal, noProxy)}},
		{name: "R37 a layout of stores that the state does not know is of a later state", t: tamper{protocol: product(func(r *rules) {
			r.rebuild = func(e *evaluation) {
				e.seen.StorePublished, e.seen.Store.Exists = Published{}, false
				rebuild(e)
			}
		})}},
	}
}

func TestDroppedStoreRulesAreCaught(t *testing.T) {
	t.Parallel()
	for _, r := range storeRules() {
		r.t.stores = true
		t.Run(r.name, func(t *testing.T) {
			expect(t, r, Standard())
		})
	}
}
