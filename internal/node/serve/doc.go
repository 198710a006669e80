// Package serve is the half of a node's agent that routes pulls: containerd
// asks it on loopback, and it asks the registries of the layout.
//
// It watches one Secret, keeps the last good layout on disk, and serves it with or
// without an API server. What may become of a new layout is in keeper.go. It
// never touches containerd's files: the other half (package agent, command
// registry-agent node) does, and asks here which generation is served. Start at Run.
package serve
