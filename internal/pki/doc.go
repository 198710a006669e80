// Package pki owns the module's own certificates and generated passwords: one
// CA that in-cluster clients trust, the leaf of the in-cluster proxy, and a
// reloader that changes a server's leaf without a restart.
//
// What it is given is reused for as long as it decodes, chains and is valid:
// a CA that changes without a rotation cuts off every client. It stores
// nothing and knows nothing of Kubernetes. Start at EnsureCA and EnsureLeaf.
package pki
