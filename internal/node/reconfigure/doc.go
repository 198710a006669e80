// Package reconfigure carries out one change of containerd's main file as a
// transaction: backup, write, restart, checks, and everything back where it
// was when a check fails. It may be stopped at any operation; the next pass
// goes on or undoes, and never restarts containerd a second time without need.
//
// A change is named by an ID, waits until that ID is approved, and is not
// tried again once it failed: what is to be written, or what is there, must
// change first. Start at Reconfigurer.Pass.
package reconfigure
