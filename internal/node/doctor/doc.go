// Package doctor looks at a node as its agent would, without a cluster and without
// changing anything. It prints what it found, what an agent would change, and what
// is in the way. Start at Command.
package doctor
