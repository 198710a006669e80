// Package reconfigure carries out one change of containerd's main file as a
// transaction: backup, write, restart, checks, and if a check fails everything is
// put back. It may be killed at any operation: the next pass continues or undoes
// the change, and restarts containerd a second time only if it must.
//
// A change has an ID and waits until that ID is approved. A change that failed is
// not tried again, until the file or what is to be written differs. Start at
// Reconfigurer.Pass.
package reconfigure
