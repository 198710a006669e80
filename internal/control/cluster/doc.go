// Package cluster is what is there. It reads the cluster into a Snapshot, says how
// workloads and nodes in it are, and writes through a Client. What is held of a Pod is
// in excerpt.
//
// What should be is decided above it: it is told the names, and the number of the
// switch that a workload is re-pointed in. Start at Snapshot, then Workload, then Client.
package cluster
