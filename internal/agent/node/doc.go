// Package node is the half of a node's agent that touches the node: it puts
// our entries into containerd's host directory, proves by a pull of the node's
// own containerd that they work, and reports in RegistryNode.status.
//
// It works in passes, see pass.go: each looks at everything anew and ends in
// one report, which is written only if it differs from the last. It never
// listens on the network and never edits containerd's main configuration; the
// return to the legacy format and containerd 1.x are not for it yet. Start at
// Run.
package node
