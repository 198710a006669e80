// Package agenttest is one node for tests: a real containerd, both halves of
// the agent, a real API server with the node's RegistryNode and the layout's
// Secret, and somebody who does what the controller and systemd do. Start at
// New.
package agenttest
