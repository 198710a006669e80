package e2e

import "context"

// statements is how many the two documents make, by the table in docs/seeds.md.
const statements = 81

// step is one part of the story.
type step struct {
	name, title string
	// phase is what pulls during the step are counted under.
	phase string
	do    func(*story, context.Context) error
}

// timeline is the story. Each step leaves behind what the next one needs.
func timeline() []step {
	const (
		installed = "Unmanaged on A"
		toDirect  = "to Direct on A"
		toB       = "Direct, A to B"
		withoutA  = "Direct on B, A off"
		upgraded  = "module upgraded"
		unmanaged = "Unmanaged on B"
		legacy    = "legacy format"
	)
	return []step{
		{"cluster", "Kubernetes with three nodes, two registries, nothing of ours", "", (*story).lookAround},
		{"install", "helm install, from a registry with a private CA", "", (*story).install},
		{"unmanaged", "a new installation is Unmanaged and touches no node", "", (*story).freshUnmanaged},
		{"platform", "the platform's workloads, a client pod, and pulls on every node", installed, (*story).platform},
		{"masters-ready", "are all masters Ready?", installed, (*story).mastersReady},
		{"module-running", "does the module run?", installed, (*story).moduleRunning},
		{"v1-clash", "Direct, while w1 has credentials in the legacy format", toDirect, (*story).clash},
		{"mirror-auth", "Mirror Auth by NodeGroupConfiguration", toDirect, (*story).mirrorAuth},
		{"v1-prepared", "the legacy file is deleted, and the switch goes on", toDirect, (*story).prepared},
		{"direct-a", "Direct on A: what changed, and what did not", toDirect, (*story).directA},
		{"mirror-auth-works", "Mirror Auth has its effect", toDirect, (*story).mirrorAuthWorks},
		{"refused-in-direct", "what Direct refuses: uninstall, deletion, the legacy format", toDirect, (*story).refusedInDirect},
		{"direct-b", "Direct to Direct: another address, other credentials", toB, (*story).directB},
		{"a-off", "the registry of the installation is switched off for good", withoutA, (*story).switchAOff},
		{"node-added", "a new node", withoutA, (*story).nodeAdded},
		{"node-reimaged", "a node's disk is made anew", withoutA, (*story).nodeReimaged},
		{"upgrade", "helm upgrade in Direct", upgraded, (*story).upgrade},
		{"rollback", "helm rollback in Direct", upgraded, (*story).rollback},
		{"masters-ready-again", "are all masters Ready, before the way back?", unmanaged, (*story).mastersReadyAgain},
		{"unmanaged-again", "Unmanaged, on the registry of the previous mode", unmanaged, (*story).unmanagedAgain},
		{"legacy", "containerd 1.x gets its legacy format back", legacy, (*story).legacy},
		{"legacy-works", "what works in the legacy format, and what does not", legacy, (*story).legacyWorks},
		{"uninstall", "helm uninstall", legacy, (*story).uninstall},
		{"files", "the nodes' files are what they were before", "", (*story).sameFiles},
		{"leftovers", "what is left in the cluster", "", (*story).leftovers},
	}
}
