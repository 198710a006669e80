// Package upstream owns the one type for "a registry that we may pull from":
// address, path, scheme, CA and credentials.
//
// It parses and validates what users write, says what is wrong and what would
// be right, and keeps the credentials out of everything that prints. It knows
// nothing of Kubernetes and opens no connection. Start at Upstream.
package upstream
