// Package precheck owns the question "are these images there?": it asks a
// registry for the manifest of each, by the same transport that agents and
// proxies pull through, with a bounded number of requests at a time.
//
// It downloads no layer, decides nothing and knows nothing of Kubernetes. A
// Runner asks for ever until all images are found; Checker.Check asks once.
// Start at Checker.Check.
package precheck
