// Package hostile plays the actors of docs/threat-model.md: tenant of a namespace,
// owner of a node, owner of a registry, and who sits in the network between. Each
// tries what that page says they cannot do, on the real API server, a real
// containerd or our own programs with real listeners. There is nothing in it but
// tests: one file per actor. `go test -v ./test/hostile` ends with a table of who
// tried what and what they got.
package hostile
