// Package machine builds a small cluster out of real parts on one Linux
// machine: API server and etcd, registries, and nodes with their own containerd,
// each in its own network and mount namespace. The demo and tests drive it.
//
// What is not real is named: nodes have no kubelet and no controller-manager
// stands behind the API server. standins.go is all that plays their part. Package
// kube has the real ones.
//
// The package never changes the host: no bridge, route, mount or file outside
// the run's folder, but for control groups of machines that run pods. Namespaces
// live as long as the processes in them, processes die with the program that
// started them, and a later run removes folder and control groups of one that
// was killed. Start at Run, then Cluster.
package machine
