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
	p, err := Broken(BrokenCheck)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, rule{name: BrokenCheck, harmless: "the target alone is proved by each node"}, p)
	if _, err := Broken("otherwise"); err == nil {
		t.Error("an unknown kind is taken")
	}
}
