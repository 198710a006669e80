//go:build !brokenprotocol

package switchover

import "testing"

func TestBrokenProtocolsAreCaught(t *testing.T) {
	t.Parallel()
	t.Skip("this build has no broken protocols; make test builds with -tags brokenprotocol")
}
