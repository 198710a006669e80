// Package excerpt is what is held in memory of an object of the cluster: only what a
// pass looks at, so that a cluster with a hundred thousand Pods fits. The controller's
// caches and the lists past them hold the same.
//
// It knows nothing of the rest of the control side. Start at Reducer, then Pod.
package excerpt
