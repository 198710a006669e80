// Package switchover owns the switch: modes, plans, steps, and the one
// function Advance that moves a switch as far as the cluster allows.
//
// It is pure: no clients, no clock, no goroutines, no logging. The controller
// observes a World, calls Advance, stores the State, and only then makes the
// cluster look like State.Desired. Why each rule exists is told by the
// property test, which drops them one by one.
//
// Start at plans.go, then state.go and world.go, then Advance.
package switchover
