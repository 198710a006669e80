// Package component makes, moves, upgrades and removes the module's own workloads.
//
// They never name the fixed address, because they serve it. Start at List, then
// (*Keeper).ApplyFirst and (*Keeper).Move.
package component
