// Package platform moves the platform's workloads to another registry name, a
// few at a time, and counts which image references are in use.
//
// It does not move the module's own workloads: package component does. Package
// switchover decides when a move may begin. Start at (*Mover).Measure, then
// (*Mover).Repoint.
package platform
