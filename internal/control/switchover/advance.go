package switchover

import (
	"fmt"
	"slices"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// verdict is what a step says. A step cannot fail, it can only wait and say
// why; the controller handles errors of reading and writing.
type verdict struct {
	done    bool
	message string
}

func done(message string) verdict { return verdict{done: true, message: message} }
func wait(message string) verdict { return verdict{message: message} }

// evaluation is one run of Advance. Steps edit s.Desired, then compare it with
// what was seen.
type evaluation struct {
	Protocol
	seen Observed
	was  State // as stored
	s    State // as it will be stored
	// fresh is whether this run set a target.
	fresh bool
	// tooMany are nodes that are NotReady for long, and that the barrier still
	// waits for: it has left out as many as it may.
	tooMany []string
	// gating are the nodes whose own image may hold a switch up; nil until it is asked.
	gating map[string]bool
	// left are s.Excluded by node; nil until it is asked.
	left map[nodeKey]Exclusion
}

// evaluate begins an evaluation of a stored state.
func (p Protocol) evaluate(s State, seen Observed) *evaluation {
	return &evaluation{Protocol: p, seen: seen, was: s, s: s}
}

// Advance moves a switch as far as the cluster allows and says in
// State.Conditions how far that is. It is a pure function: it does no I/O, has
// no clock and changes neither argument. The controller stores the result
// before it makes anything else look like State.Desired.
func (p Protocol) Advance(s State, seen Observed) State {
	e := p.evaluate(s, seen)
	if mode := seen.Spec.Mode; mode != "" && !p.knows(mode) {
		e.seen.Spec = Spec{Problem: fmt.Sprintf("ModuleConfig %s: Unknown registry mode: %q.", names.ModuleConfigName, mode)}
	}
	if problem := e.unreadable(); problem != "" {
		e.reportUnreadable(problem)
		return e.s
	}
	if !e.begin() {
		e.reportUnknown()
		return e.s
	}
	refused := e.refuse()
	e.chooseTarget()
	e.keepApprovals()
	e.exclude()
	e.approveRestarts()
	e.learnFallback()
	e.learnStores()
	e.learnDifferences()
	e.run()
	e.reportRefused(refused)
	return e.s
}

// run goes through the plan of the target, as far as it gets.
func (e *evaluation) run() {
	plan := e.modes[e.s.Target.Mode].plan
	verdicts := make([]verdict, len(plan))
	reached := 0 // how many steps are done
	for ; reached < len(plan); reached++ {
		step := plan[reached]
		if e.s.passed(step.name) {
			verdicts[reached] = done(e.messageOf(step.name))
			continue
		}
		if verdicts[reached] = e.try(step); !verdicts[reached].done {
			break
		}
		// Remembered by name, and never taken back: "old and new" stops being
		// true once Final shrinks.
		e.s.Passed = append(slices.Clone(e.s.Passed), Passed{Step: step.name, Generation: e.s.Desired.Layout.Generation})
	}
	if reached == len(plan) {
		e.settle(plan, verdicts)
	}
	e.s.Desired.Repoint = e.mayRepoint(plan, reached)
	e.report(plan, verdicts, reached)
}

// try runs one step. A step that changed what is wanted is not done: what was
// seen was measured against what was wanted before.
func (e *evaluation) try(step step) verdict {
	before := e.s.Desired
	v := step.do(e)
	if v.done && !sameDesired(before, e.s.Desired) {
		return wait(v.message)
	}
	return v
}

// settle is the end of a switch, and every pass after it.
func (e *evaluation) settle(plan []step, verdicts []verdict) {
	e.s.Active = e.s.Target
	if e.namedInSecret(e.s.Active.Mode) {
		e.s.Desired.Registry = Target{} // the user's again
	}
	if !e.settledBefore() {
		return // what follows needs a later look at the cluster
	}
	for i, step := range plan {
		if v, changed := e.afterReady(step.name); changed {
			verdicts[i] = v
		}
	}
}

// settledBefore reports whether the switch had ended before this pass.
func (e *evaluation) settledBefore() bool {
	return !e.fresh && e.was.settled(e.modes[e.s.Target.Mode].plan)
}

// mayRepoint reports whether rollouts may begin: from Switch on, and only while
// every counting node knows the name. It is asked anew in every pass.
func (e *evaluation) mayRepoint(plan []step, reached int) bool {
	at := slices.IndexFunc(plan, func(s step) bool { return s.name == names.ConditionSwitch })
	return !e.untouched() && at >= 0 && reached >= at &&
		e.s.Desired.Workloads == e.nameOf(e.s.Target) && e.rules.safeNow(e).done
}

// learnFallback puts the address of Service registry into the layout as soon as
// it is known. A pass that does not see the address keeps it. While Cleanup
// takes it out, it is not put back.
func (e *evaluation) learnFallback() {
	l, fallback := e.s.Desired.Layout, e.seen.Proxy.Fallback
	if !e.s.Desired.Proxy && e.s.Desired.Store.IsZero() || e.s.FallbackRemoved > 0 || fallback == (layout.Fallback{}) || fallback == l.Fallback {
		return
	}
	if _, ok := l.Route(layout.Fixed()); ok {
		l.Fallback = fallback
		e.publish(l)
	}
}

// untouched reports whether nodes know nothing of the module and need not: in
// Unmanaged before the first switch, or after the return to the legacy format.
func (e *evaluation) untouched() bool {
	return !e.hasFixedAddress(e.s.Target.Mode) && e.s.Desired.Layout.IsZero()
}
