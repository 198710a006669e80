// Package oci owns the words of a pull, by the distribution specification: what a client
// asks for, what may be in its names and headers and in those of an answer, the links of
// a list, and how an error is said.
//
// It decides nothing and asks nobody: what an answer means is package judge's. Headers are
// allow-lists in both directions, so that no credentials pass. Start at Parse.
package oci
