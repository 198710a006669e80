// Package switchover owns the switch: modes, plans, steps, and the one
// function Advance that moves a switch as far as the cluster allows.
//
// It is pure: no clients, no clock, no goroutines, no logging. The controller
// fills in Observed, calls Advance, stores the State, and only then makes the
// cluster look like State.Desired. The property test shows why each rule
// exists: it leaves them out one by one. docs/protocol.md says what they are.
//
// Start at plans.go, then state.go and observed.go, then Advance.
package switchover
