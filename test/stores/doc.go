// Package stores has the agent's serving half and the in-cluster proxy, as their programs run
// them by a real API server, behind real processes of registry-store: what they pull when stores
// are there, die, lie or never were. There is nothing in it but tests.
package stores
