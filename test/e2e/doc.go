// Package e2e tells the users' documentation as a story on a real Kubernetes
// cluster, line by line: every YAML is applied, every command is run and every
// output is compared, while all nodes and a pod pull without a failure.
//
// Most of the package needs no cluster: documents.go cuts the documents in
// testdata/seeds into blocks, script.go says for each block how it is shown,
// compare.go knows what the examples leave open. Their tests fail when a line of
// the documents is forgotten. docs/seeds.md says the same for single statements.
//
// The story itself is TestE2E (make e2e): timeline.go names its steps, step_*.go
// hold them. It ends with an error if one promise did not hold.
package e2e
