//go:build brokenprotocol

package fetch

import "fmt"

// BrokenFallThrough gives the client what the first store says, whatever it is.
const BrokenFallThrough = "no-fall-through"

// Broken are promises of which one is not kept. No program that ships has them: they are for
// negative controls.
func Broken(kind string) (Promises, error) {
	if kind != BrokenFallThrough {
		return Promises{}, fmt.Errorf("unknown kind of broken fetch %q: expected %q", kind, BrokenFallThrough)
	}
	return Promises{firstStoreOnly: true}, nil
}
