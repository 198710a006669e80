// Package conformance runs the OCI distribution conformance suite through the agent and
// through the in-cluster proxy, in front of distribution v3 and of testregistry, and asks
// these registries themselves as well: what they pass must be passed through us. What of it
// reads is also asked of stores, through the agent and as their own clients do. There is
// nothing in it but tests.
package conformance
