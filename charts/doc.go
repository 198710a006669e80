// Package charts holds the module's Helm chart, registry, and tests that lint,
// render and install it by the real Helm on a real API server. The chart's
// rights, admission policies and CRDs are those of deploy/, by symbolic link.
// Start at registry/values.yaml.
package charts
