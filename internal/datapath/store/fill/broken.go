//go:build brokenprotocol

package fill

import "fmt"

// BrokenLastByte gives all bytes out before their digest is known: it is looked at when they are stored.
const BrokenLastByte = "last-byte"

// BrokenResume ends a fill with the first answer that breaks.
const BrokenResume = "no-resume"

// Broken are promises of which one is not kept. No program that ships has them: they are for
// negative controls.
func Broken(kind string) (Promises, error) {
	switch kind {
	case BrokenLastByte:
		return Promises{holdNothing: true, checkLate: true}, nil
	case BrokenResume:
		return Promises{breaks: true}, nil
	}
	return Promises{}, fmt.Errorf("unknown kind of broken fill %q: expected %q or %q", kind, BrokenLastByte, BrokenResume)
}
