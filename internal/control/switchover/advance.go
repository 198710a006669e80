package switchover

import (
	"slices"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// verdict is all that crosses a step's border. A step cannot fail, it can only
// wait and say why; errors of reading and writing are the controller's.
type verdict struct {
	done    bool
	message string
}

func done(message string) verdict { return verdict{done: true, message: message} }
func wait(message string) verdict { return verdict{message: message} }

// pass is one run of Advance. Steps edit s.Desired, then compare it with w.
type evaluation struct {
	Protocol
	w   Observed
	was State // as stored
	s   State // as it will be stored
	// fresh is whether this pass set a target.
	fresh bool
	// tooMany are nodes that are NotReady for long, but more than the barrier
	// may go without.
	tooMany []string
}

// Advance moves a switch as far as the cluster allows and says in
// State.Conditions how far that is. It is a pure function: it does no I/O, has
// no clock and changes neither argument. The controller stores the result
// before it makes anything else look like State.Desired.
func (p Protocol) Advance(s State, w Observed) State {
	x := &evaluation{Protocol: p, w: w, was: s, s: s}
	if problem := x.unreadable(); problem != "" {
		x.reportUnreadable(problem)
		return x.s
	}
	if !x.begin() {
		x.reportUnknown()
		return x.s
	}
	x.chooseTarget()
	x.keepApprovals()
	x.exclude()
	x.approveRestarts()
	x.learnFallback()
	x.run()
	return x.s
}

// run goes through the plan of the target, as far as it gets.
func (x *evaluation) run() {
	plan := x.plans[x.s.Target.Mode]
	verdicts := make([]verdict, len(plan))
	reached := 0 // how many steps are done
	for ; reached < len(plan); reached++ {
		step := plan[reached]
		if x.passed(step.name) {
			verdicts[reached] = done(x.messageOf(step.name))
			continue
		}
		if verdicts[reached] = x.try(step); !verdicts[reached].done {
			break
		}
		// By name and not by index, and never taken back: "old and new" stops
		// being true once Final shrinks.
		x.s.Passed = append(slices.Clone(x.s.Passed), Passed{Step: step.name, Generation: x.s.Desired.Layout.Generation})
	}
	if reached == len(plan) {
		x.settle(plan, verdicts)
	}
	x.s.Desired.Repoint = x.mayRepoint(plan, reached)
	x.report(plan, verdicts, reached)
}

// try runs one step. A step that changed what is wanted is not done, whatever
// it saw: what was seen was measured against what was wanted before.
func (x *evaluation) try(step step) verdict {
	before := x.s.Desired
	v := step.do(x)
	if v.done && !sameDesired(before, x.s.Desired) {
		return wait(v.message)
	}
	return v
}

// settle is the end of a switch, and every pass after it.
func (x *evaluation) settle(plan []step, verdicts []verdict) {
	x.s.Active = x.s.Target
	if x.s.Active.Mode == Unmanaged {
		x.s.Desired.Registry = Target{} // the user's again
	}
	if !x.settledBefore() {
		return // what follows believes only a later look at the cluster
	}
	for i, step := range plan {
		if v, changed := x.afterReady(step.name); changed {
			verdicts[i] = v
		}
	}
}

// settledBefore reports whether the switch had ended before this pass.
func (x *evaluation) settledBefore() bool {
	return !x.fresh && x.was.settled(x.plans[x.s.Target.Mode])
}

// mayRepoint reports whether rollouts may begin: from Switch on, and only while
// every counting node knows the name. It is asked anew in every pass.
func (x *evaluation) mayRepoint(plan []step, reached int) bool {
	at := slices.IndexFunc(plan, func(s step) bool { return s.name == names.ConditionSwitch })
	return !x.untouched() && at >= 0 && reached >= at &&
		x.s.Desired.Workloads == x.s.Target.Name() && x.rules.safeNow(x).done
}

// learnFallback takes the in-cluster proxy's address into the layout as soon
// as it is known. It is never forgotten because one pass did not see it, and
// not learnt again while Cleanup takes it out.
func (x *evaluation) learnFallback() {
	l, way := x.s.Desired.Layout, x.w.Proxy.Fallback
	if !x.s.Desired.Proxy || x.s.FallbackRemoved > 0 || way == (layout.Fallback{}) || way == l.Fallback {
		return
	}
	if _, ok := l.Route(layout.Fixed()); ok {
		l.Fallback = way
		x.publish(l)
	}
}

// publish makes next the layout that is wanted, under the next generation.
func (x *evaluation) publish(next layout.Layout) {
	old := x.s.Desired.Layout
	next.Schema = layout.Schema
	if old.Generation == x.s.Generation {
		if next.SameContent(old) {
			return
		}
		x.s.Generation++
	} // else the generation that the target took is still to be used
	next.Generation = x.s.Generation
	if !next.Covers(old) {
		x.s.Desired.Shrunk = next.Generation
	}
	x.s.Desired.Layout = next
}

// untouched reports whether no node was ever asked for anything and none needs
// to be: Unmanaged before the first switch, or after the return to the legacy
// format.
func (x *evaluation) untouched() bool {
	return x.s.Target.Mode == Unmanaged && x.s.Desired.Layout.IsZero()
}

func (x *evaluation) passed(step string) bool {
	return slices.ContainsFunc(x.s.Passed, func(p Passed) bool { return p.Step == step })
}
