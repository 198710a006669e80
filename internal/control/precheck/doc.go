// Package precheck checks whether a registry has certain images. It asks for the
// manifest of each, through the same transport that agents and proxies pull
// through, and sends only a few requests at a time.
//
// It downloads no layer, decides nothing and knows nothing of Kubernetes.
// Checker.Check asks once; a Runner asks until all images are found. Start at
// Checker.Check.
package precheck
