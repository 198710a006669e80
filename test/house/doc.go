// Package house holds the rules of the house as tests: who may import whom, how
// large packages, files, functions and structs may be, and that files which
// comments name are there. There is nothing in it but tests.
//
// The linter knows the import rules too (.golangci.yaml) and says so sooner. Here
// they are read from go list, so that no list of exceptions can hide a package.
package house
