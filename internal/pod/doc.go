// Package pod is what containers of ours may do and get, and the pod of a store: that is made
// in two places, by the controller as a DaemonSet, and by a node as a static pod, and must be
// the same.
//
// It decides nothing, and reads nothing. Start at Store.
package pod
