package switchover

// focus is what a history is mostly about. Sequences of many faults of one kind are
// rare among all others.
type focus int

const (
	onRestores focus = iota // of backups, also in clusters of one node
	onRestarts              // of containerd
	onLeaders               // that pause, and states that are lost
	onInside                // of a registry that runs in this cluster
)

// faults are those of the history.
func (f focus) faults() []event {
	switch f {
	case onRestores:
		return []event{{6, (*sim).userEdits}, {6, (*sim).backsUp}, {6, (*sim).restored}, {2, (*sim).restoredTwice}}
	case onRestarts:
		return []event{
			{6, (*sim).userEdits}, {6, (*sim).nodeDown}, {6, (*sim).nodeUp}, {6, (*sim).nodeReboots},
			{3, (*sim).userRepairsTheNode}, {6, (*sim).stateLost}, {2, (*sim).registryNodeDeleted}, {1, (*sim).crash},
		}
	case onLeaders:
		return []event{
			{6, (*sim).userEdits}, {8, (*sim).failover}, {2, (*sim).oldLeaderWakes}, {1, (*sim).stateLost}, {2, (*sim).stateRestored}, {4, (*sim).oldLeaderIsLate}, {4, (*sim).stateOfBeforeTheProof},
		}
	case onInside:
		return []event{
			{8, (*sim).userEdits}, {4, (*sim).powerFailsInTransition}, {4, (*sim).powerFails}, {4, (*sim).nodeDown}, {4, (*sim).nodeUp},
			{4, (*sim).nodeReboots}, {2, (*sim).nodeReimaged}, {4, (*sim).nodeJoins}, {2, (*sim).crash}, {2, (*sim).agentHangsOrWakes},
		}
	default:
		return faultEvents()
	}
}
