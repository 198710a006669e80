// Package controller is the process beside the API server. It wires the parts
// and joins what they say: a pass looks at the cluster, asks switchover what
// should be, stores that, and only then makes the cluster look like it.
//
// It decides nothing about the order of a switch and never writes ModuleConfig.
// Start at (*Reconciler).pass in reconciler.go: it is the list of what happens.
// What is looked at is in observe.go, what is done is the list in apply.go.
package controller
