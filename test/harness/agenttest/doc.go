// Package agenttest is one node for tests: a real containerd, both halves of
// the agent, a real API server with the node's RegistryNode and the layout's
// Secret, and stand-ins for the controller and systemd. Start at New.
package agenttest
