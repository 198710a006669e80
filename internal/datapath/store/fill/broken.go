//go:build brokenprotocol

package fill

import "fmt"

// BrokenLastByte gives bytes out before their digest is known.
const BrokenLastByte = "last-byte"

// Broken are promises of which one is not kept. No program that ships has them: they are for
// negative controls.
func Broken(kind string) (Promises, error) {
	if kind != BrokenLastByte {
		return Promises{}, fmt.Errorf("unknown kind of broken fill %q: expected %q", kind, BrokenLastByte)
	}
	return Promises{holdNothing: true}, nil
}
