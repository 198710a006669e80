// Package controller is the one writer of the module's Kubernetes objects. A
// pass observes the cluster, asks switchover what should be, stores that, and
// only then makes the cluster look like it.
//
// It decides nothing about the order of a switch and never writes ModuleConfig.
// Start at (*Reconciler).pass in pass.go: it is the list of what happens. What
// is read is in observe*.go, what is stored in store.go, what is written in
// apply*.go, in the order in which apply.go calls it.
package controller
