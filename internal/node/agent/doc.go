// Package agent is the half of a node's agent that touches the node: it puts
// entries of ours into containerd's host directory, proves by a pull of the
// node's own containerd that they work, and reports in RegistryNode.status.
//
// It works in passes (pass.go). Each looks at everything anew, makes the node
// what the layout wants (converge.go) or what it was before the first layout
// (revert.go), and ends in one report. The work is done by parts, each in a
// package of its own: report, hosts, proof, reach, configchange. This package
// wires them (agent.go) and decides when a pass is due (loop.go). Scripts run
// beside the passes (scripts.go). It never listens on the network. Start at Run.
package agent
