//go:build brokenprotocol

package cache

import "github.com/d8-registry/registry/internal/datapath/store/fill"

// BrokenWayPast ends a body that the store cannot give on: its disk is full, or lost.
const BrokenWayPast = "no-way-past"

// Broken are promises of which one is not kept, those of fills too. No program that ships has them: they are
// for negative controls.
func Broken(kind string) (Promises, error) {
	if kind == BrokenWayPast {
		return Promises{noWayPast: true}, nil
	}
	promises, err := fill.Broken(kind)
	return Promises{Fill: promises, noWayPast: kind == fill.BrokenResume}, err
}
