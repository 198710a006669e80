// Package platform moves the platform's workloads to another registry name, a
// few at a time, and counts which image references are in use.
//
// It does not know the module's own workloads, see component, nor when a move
// may begin, see switchover. Start at (*Mover).Measure, then (*Mover).Repoint.
package platform
