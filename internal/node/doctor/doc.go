// Package doctor looks at a node as its agent would, without any cluster and
// without changing anything, and says what it found, what an agent would
// change, and what is in the way. Start at Command.
package doctor
