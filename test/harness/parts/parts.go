// Package parts tells tests of the real parts in .parts whether they may run.
package parts

import "testing"

// Need skips a test in a short run: go test -short, which is make test-fast, does
// without API servers, containerds, registries and Helm.
func Need(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs real parts: make test runs it")
	}
}
