//go:build brokenprotocol

package fill

import "fmt"

// BrokenLastByte gives all bytes out before their digest is known: it is looked at when they are stored.
const BrokenLastByte = "last-byte"

// Broken are promises of which one is not kept. No program that ships has them: they are for
// negative controls.
func Broken(kind string) (Promises, error) {
	if kind != BrokenLastByte {
		return Promises{}, fmt.Errorf("unknown kind of broken fill %q: expected %q", kind, BrokenLastByte)
	}
	return Promises{holdNothing: true, checkLate: true}, nil
}
