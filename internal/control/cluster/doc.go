// Package cluster is what is there. It reads the cluster into a Snapshot, says
// how workloads, pods and nodes in it are, and has the one way to write.
//
// It knows nothing of registries that should be, of switches or of state: what
// should be is decided above it. Start at Snapshot, then Workload, then Client.
package cluster
