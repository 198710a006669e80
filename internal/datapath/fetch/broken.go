//go:build brokenprotocol

package fetch

import "fmt"

// BrokenFallThrough gives the client what the first store says, whatever it is.
const BrokenFallThrough = "no-fall-through"

// BrokenResume ends a body where it breaks.
const BrokenResume = "no-resume"

// Broken are promises of which one is not kept. No program that ships has them: they are for
// negative controls.
func Broken(kind string) (Promises, error) {
	switch kind {
	case BrokenFallThrough:
		return Promises{firstStoreOnly: true}, nil
	case BrokenResume:
		return Promises{noResume: true}, nil
	}
	return Promises{}, fmt.Errorf("unknown kind of broken fetch %q: expected %q or %q", kind, BrokenFallThrough, BrokenResume)
}
