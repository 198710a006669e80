//go:build brokenprotocol

package switchover

import "testing"

func TestBrokenProtocolsAreCaught(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{BrokenOrder, BrokenFinalEarly} {
		t.Run(kind, func(t *testing.T) {
			p, err := Broken(kind)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, rule{name: kind}, p)
		})
	}
	if _, err := Broken("otherwise"); err == nil {
		t.Error("an unknown kind is taken")
	}
}
