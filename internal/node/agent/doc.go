// Package agent is the half of a node's agent that touches the node: it puts
// our entries into containerd's host directory, proves by a pull of the node's
// own containerd that they work, and reports in RegistryNode.status.
//
// It works in passes, see pass.go: each looks at everything anew (look.go),
// gets the node to where the layout wants it (bring.go), or to where it was
// before the first one (legacy.go), and ends in one report, which is written
// only if it differs from the last. A change of containerd's main file, with a
// restart, is the exception and waits for approval (change.go). Scripts run
// beside the passes (scripts.go). It never listens on the network. Start at Run.
package agent
