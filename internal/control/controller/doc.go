// Package controller runs the control side. Each pass observes the cluster, asks
// switchover what should be, stores that, and only then changes the cluster.
//
// It joins packages that do not know each other, and decides nothing about the
// order of a switch. It never writes ModuleConfig. Start at (*Reconciler).pass in
// reconciler.go. observe.go reads, apply.go writes, run.go connects the parts.
package controller
