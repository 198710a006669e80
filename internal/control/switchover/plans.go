package switchover

import (
	names "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// step is one line of a plan: the condition that the user watches, and the
// function that asks the cluster for one change and says whether the cluster
// has made it.
type step struct {
	name string
	do   func(*evaluation) verdict
}

// Protocol is the whole machine: a plan for each mode and the rules that the
// steps share. Its zero value does nothing; use Standard.
type Protocol struct {
	plans map[Mode][]step
	rules rules
}

// Standard is the protocol. One line is one step. Steps run top to bottom and
// never overtake.
//
// The order is the safety argument: a node learns the new address before
// anything starts using it, and forgets the old one only after nothing does.
func Standard() Protocol {
	return Protocol{
		plans: map[Mode][]step{
			Direct: {
				{names.ConditionImages, haveImages},
				{names.ConditionPreflight, nodesHaveNoCustomConfig},
				{names.ConditionTransition, nodesKnowOldAndNew},
				{names.ConditionProxy, proxyRuns},
				{names.ConditionSwitch, platformUsesNew},
				{names.ConditionFinal, nodesKnowOnlyNew},
			},
			Unmanaged: {
				{names.ConditionImages, haveImages},
				{names.ConditionTransition, nodesKnowOldAndNew},
				{names.ConditionSwitch, platformUsesNew},
				{names.ConditionFinal, nodesKnowOnlyNew},
				{names.ConditionCleanup, proxyIsGone},
			},
		},
		rules: standardRules(),
	}
}

// Plan lists the steps of a mode as conditions, for documentation and tools.
// It is empty for an unknown mode.
func Plan(mode Mode) []string {
	var steps []string
	for _, s := range Standard().plans[mode] {
		steps = append(steps, s.name)
	}
	return steps
}

// Advance moves a switch as far as the cluster allows; see Protocol.Advance.
func Advance(s State, seen Observed) State { return Standard().Advance(s, seen) }
