// Package distribution knows what set containerd up on a node: who writes its main
// file and when, and where an operator sets config_path so that it stays. The
// facts are those of each one's public documentation; docs/nodes.md shows them
// beside what a switch does.
//
// It is advice. A main file that somebody writes anew is recognised by what
// happens as well, by package reconfigure. Start at Recognise.
package distribution
