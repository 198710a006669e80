package switchover

// focus is what a history is mostly about. Sequences of many faults of one kind are
// rare among all others.
type focus int

const (
	onRestores focus = iota // of backups, also in clusters of one node
	onRestarts              // of containerd
	onLeaders               // that pause, and states that are lost
	onLegacy                // format, and nodes that are away when it is ordered
	onSize                  // of the state, near its limit
	onInside                // of a registry that runs in this cluster
	onLies                  // of agents, about generations
	// onStores: mode Proxy is among the wishes, and stores die, lag and lose their disks.
	// No history is so by chance; see tamper.
	onStores focus = 12
)

// faults are those of the history.
func (f focus) faults() []event {
	switch f {
	case onRestores:
		return []event{{6, (*sim).userEdits}, {6, (*sim).backsUp}, {6, (*sim).restored}, {2, (*sim).restoredTwice}}
	case onRestarts:
		return []event{
			{6, (*sim).userEdits}, {6, (*sim).nodeDown}, {6, (*sim).nodeUp}, {6, (*sim).nodeReboots},
			{6, (*sim).goesAwayWhileItRestarts}, {3, (*sim).userRepairsTheNode}, {6, (*sim).stateLost}, {2, (*sim).registryNodeDeleted}, {1, (*sim).crash},
		}
	case onLeaders:
		return []event{
			{6, (*sim).userEdits}, {8, (*sim).failover}, {2, (*sim).oldLeaderWakes}, {1, (*sim).stateLost}, {2, (*sim).stateRestored}, {4, (*sim).oldLeaderIsLate}, {4, (*sim).stateOfBeforeTheProof},
		}
	case onLegacy:
		return []event{
			{6, (*sim).userEdits}, {8, (*sim).userGoesBack}, {6, (*sim).nodeDown}, {4, (*sim).nodeUp}, {2, (*sim).nodeReboots}, {2, (*sim).crash}, {2, (*sim).stateLost},
		}
	case onSize:
		return []event{
			{12, (*sim).userEdits}, {4, (*sim).userReverts}, {2, (*sim).userEditsTheSecret}, {4, (*sim).registryDies}, {2, (*sim).registryReturns},
			{2, (*sim).crash}, {2, (*sim).nodeDown}, {4, (*sim).nodeUp}, {2, (*sim).stateLost}, {1, (*sim).stateRestored}, {2, (*sim).backsUp}, {2, (*sim).restored},
		}
	case onInside:
		return []event{
			{8, (*sim).userEdits}, {4, (*sim).powerFailsInTransition}, {4, (*sim).powerFails}, {4, (*sim).nodeDown}, {4, (*sim).nodeUp},
			{4, (*sim).nodeReboots}, {2, (*sim).nodeReimaged}, {4, (*sim).nodeJoins}, {2, (*sim).crash}, {2, (*sim).agentHangsOrWakes},
		}
	case onLies:
		return []event{
			{8, (*sim).userEdits}, {10, (*sim).nodeLies}, {2, (*sim).nodeDown}, {4, (*sim).nodeUp}, {2, (*sim).crash}, {1, (*sim).stateLost},
			{2, (*sim).backsUp}, {2, (*sim).restored}, {2, (*sim).registryDies}, {2, (*sim).registryReturns},
		}
	case onStores:
		return storeFaults()
	default:
		return faultEvents()
	}
}
