// Package matrix holds the table of what the agent does on nodes that were
// configured in every way that we know of, with each containerd that nodes
// run: what preflight says, what a switch to Direct and the way back leave on
// the node, how often containerd is restarted, and that containers run all the
// time. There is nothing in it but tests: start at scenarios_test.go.
package matrix
