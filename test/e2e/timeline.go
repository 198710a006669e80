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

// The phases by which pulls are counted.
const (
	phaseInstalled = "Unmanaged on A"
	phaseToDirect  = "to Direct on A"
	phaseToB       = "Direct, from A to B"
	phaseWithoutA  = "Direct on B, A switched off"
	phaseUpgraded  = "the module upgraded"
	phaseProxy     = "to Proxy on B, back to Direct, the module rolled back"
	phaseUnmanaged = "to Unmanaged on B"
	phaseLegacy    = "legacy format, Proxy from there, uninstallation"
)

// timeline is the story. Each step leaves behind what the next one needs.
func timeline() []step {
	return []step{
		{"cluster", "Kubernetes with three nodes, two registries, nothing of ours", "", (*story).lookAround},
		{"install", "helm install, from a registry with a private CA", "", (*story).install},
		{"unmanaged", "a new installation is Unmanaged and touches no node", "", (*story).freshUnmanaged},
		{"platform", "the platform's workloads, a client pod, and pulls on every node", phaseInstalled, (*story).platform},
		{"masters-ready", "are all masters Ready?", phaseInstalled, (*story).mastersReady},
		{"module-running", "does the module run?", phaseInstalled, (*story).moduleRunning},
		{"v1-clash", "Direct, while w1 has credentials in the legacy format", phaseToDirect, (*story).clash},
		{"mirror-auth", "Mirror Auth by NodeGroupConfiguration", phaseToDirect, (*story).mirrorAuth},
		{"v1-prepared", "the legacy file is deleted, and the switch goes on", phaseToDirect, (*story).prepared},
		{"direct-a", "Direct on A: what changed, and what did not", phaseToDirect, (*story).directA},
		{"mirror-auth-works", "Mirror Auth has its effect", phaseToDirect, (*story).mirrorAuthWorks},
		{"refused-in-direct", "what Direct refuses: uninstall, deletion, the legacy format", phaseToDirect, (*story).refusedInDirect},
		{"direct-b", "Direct to Direct: another address, other credentials", phaseToB, (*story).directB},
		{"a-off", "the registry of the installation is switched off for good", phaseWithoutA, (*story).switchAOff},
		{"agent-hangs", "an agent that hangs is started anew", phaseWithoutA, (*story).agentHangs},
		{"node-added", "a new node", phaseWithoutA, (*story).nodeAdded},
		{"node-reimaged", "a node's disk is made anew", phaseWithoutA, (*story).nodeReimaged},
		{"upgrade", "helm upgrade in Direct", phaseUpgraded, (*story).upgrade},
		{"proxy", "Proxy on B: the kubelet of the master runs a store", phaseProxy, (*story).proxyB},
		{"direct-again", "back to Direct: the store is gone", phaseProxy, (*story).directAgain},
		// So the store of proxy-from-legacy has an image that no pod without a pull secret has had.
		{"rollback", "helm rollback in Direct", phaseProxy, (*story).rollback},
		{"masters-ready-again", "are all masters Ready, before the way back?", phaseUnmanaged, (*story).mastersReadyAgain},
		{"unmanaged-again", "Unmanaged, on the registry of the previous mode", phaseUnmanaged, (*story).unmanagedAgain},
		{"legacy", "containerd 1.x gets its legacy format back", phaseLegacy, (*story).legacy},
		{"proxy-from-legacy", "Proxy on B: the kubelet keeps the store's image from a static pod", phaseLegacy, (*story).proxyFromLegacy},
		{"legacy-again", "Unmanaged and the legacy format again", phaseLegacy, (*story).legacyAgain},
		{"legacy-works", "what works in the legacy format, and what does not", phaseLegacy, (*story).legacyWorks},
		{"uninstall", "helm uninstall", phaseLegacy, (*story).uninstall},
		{"files", "the nodes' files are what they were before", "", (*story).sameFiles},
		{"leftovers", "what is left in the cluster", "", (*story).leftovers},
	}
}
