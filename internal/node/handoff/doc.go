// Package handoff owns what the two halves of a node's agent agree on: the state
// directory that they share, and the questions that `node` asks `serve` over
// loopback.
//
// It decides nothing. Start at StateDir, then Client.
package handoff
