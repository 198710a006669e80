package switchover

import (
	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// step is one line of a plan: the condition that the user watches, and the
// function that asks the cluster for one change and says whether the cluster
// has made it.
type step struct {
	name string
	do   func(*evaluation) verdict
	// silent is whether users do not see it while there was nothing to do for it.
	silent bool
}

// modeRow is all that modes differ in: plans and rules read it and do not ask for
// modes by name. Two places name them: installed, and rebuild for pull secrets.
type modeRow struct {
	// fixedAddress is whether platform images are named by the fixed address.
	// Otherwise they are named by the registry's own address, and nodes can do
	// without the module.
	fixedAddress bool
	// proxy is whether the in-cluster proxy should be there when the mode is
	// reached. The plan's steps start and stop it.
	proxy bool
	// store is whether nodes should run stores when the mode is reached, which readers
	// of a layout ask first.
	store bool
	// notFrom are modes from which there is no way to this one.
	notFrom []Mode
	// inSecret is whether the registry behind the mode is named in Secret
	// deckhouse-registry, which is then the user's. Otherwise ModuleConfig names it.
	inSecret bool
	// proxyLayout makes the in-cluster proxy's layout from the agents' layout.
	// nil: both are the same.
	proxyLayout func(agents layout.Layout) layout.Layout
	// plan are the steps to the mode. They run top to bottom and never
	// overtake.
	plan []step
}

// Protocol is the whole machine: a row for each mode and the rules that the
// steps share. Its zero value does nothing; use Standard.
type Protocol struct {
	modes map[Mode]modeRow
	rules rules
}

// Standard is the protocol. One line of a plan is one step.
//
// The order is the safety argument: a node learns the new address before
// anything starts using it, and forgets the old one only after nothing does.
func Standard() Protocol {
	return Protocol{
		modes: map[Mode]modeRow{
			Direct: {
				fixedAddress: true,
				proxy:        true,
				inSecret:     false,
				plan: []step{
					{name: names.ConditionImages, do: haveImages},
					{name: names.ConditionPreflight, do: nodesHaveNoCustomConfig},
					{name: names.ConditionTransition, do: nodesKnowOldAndNew},
					{name: names.ConditionProxy, do: proxyRuns},
					{name: names.ConditionSwitch, do: platformUsesNew},
					{name: names.ConditionFinal, do: nodesKnowOnlyNew},
					{name: names.ConditionCleanupStores, do: nodeServicesAreGone, silent: true},
				},
			},
			ModeProxy: {
				fixedAddress: true,
				store:        true,
				plan: []step{
					{name: names.ConditionImages, do: haveImages},
					{name: names.ConditionPreflight, do: nodesHaveNoCustomConfig},
					{name: names.ConditionStores, do: nodeServicesRun},
					{name: names.ConditionTransition, do: nodesKnowOldAndNew},
					{name: names.ConditionSwitch, do: platformUsesNew},
					{name: names.ConditionFinal, do: nodesKnowOnlyNew},
					{name: names.ConditionCleanup, do: proxyIsGone},
				},
			},
			Unmanaged: {
				fixedAddress: false,
				proxy:        false,
				inSecret:     true,
				plan: []step{
					{name: names.ConditionImages, do: haveImages},
					{name: names.ConditionTransition, do: nodesKnowOldAndNew},
					{name: names.ConditionSwitch, do: platformUsesNew},
					{name: names.ConditionFinal, do: nodesKnowOnlyNew},
					{name: names.ConditionCleanup, do: proxyIsGone},
					{name: names.ConditionCleanupStores, do: nodeServicesAreGone, silent: true},
				},
			},
		},
		rules: standardRules(),
	}
}

// Plan lists the steps of a mode as conditions that users always see, for
// documentation and tools. It is empty for an unknown mode.
func Plan(mode Mode) []string {
	var steps []string
	for _, s := range Standard().modes[mode].plan {
		if !s.silent {
			steps = append(steps, s.name)
		}
	}
	return steps
}
